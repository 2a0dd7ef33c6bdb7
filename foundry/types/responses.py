"""A response of OpenAI's Responses API as it is kept.

What it does not know: the response object's own members, which are the codec's.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
RUNNING: frozenset[ResponseStatus] = frozenset({"queued", "in_progress"})


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One response with what it answered."""

    id: str
    created_at: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds; gone from then on."""
    status: ResponseStatus
    ancestors: tuple[str, ...]
    """The responses before it, oldest first; the last one is its `previous_response_id`."""
    input: tuple[msgspec.Raw, ...]
    """This request's own input items, as the caller sent them; a plain text is one user message."""
    response: msgspec.Raw
    """The response object, as its caller was sent it."""
    background: bool = False
    beaten_at: float = 0.0
    """Of one that runs in the background: when its replica last said that it lives, Unix seconds."""


class ResponseView(msgspec.Struct, frozen=True):
    """What the store reads in a response object."""

    id: str
    status: ResponseStatus = "completed"
    created_at: float = 0.0
    output: tuple[msgspec.Raw, ...] = ()
