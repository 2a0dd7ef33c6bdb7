"""Cursor pagination: `?limit=&cursor=`, keyset on the sortable id, newest first.

What it does not know: tables. A cursor is opaque to callers (base64 of the last id seen).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from foundry.errors import InvalidParameter

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


@dataclass(frozen=True)
class Window:
    """Which rows of a list: at most `limit`, those before `before_id`."""

    limit: int = DEFAULT_LIMIT
    before_id: str | None = None

    @staticmethod
    def cursor_after(row_id: str) -> str:
        """The cursor that continues after this row."""
        return base64.urlsafe_b64encode(row_id.encode()).decode().rstrip("=")


def parse_cursor(cursor: str) -> str:
    """The id inside. Raises InvalidParameter."""
    refusal = InvalidParameter(
        "the cursor is not one that this API gave out: start without it", param="cursor"
    )
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise refusal from error
    if not text or not text.isprintable():
        raise refusal
    return text


def _window(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Window:
    return Window(limit=limit, before_id=parse_cursor(cursor) if cursor else None)


Paginated = Annotated[Window, Depends(_window)]
"""Parameter type of list endpoints."""
