"""What a stateful endpoint is given and what it gives back; reading of queries and bodies; pages in OpenAI's shape.

What it does not know: authorisation, limits and records (`desk.py`), any one endpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from foundry.codecs.base import JSON
from foundry.errors import InvalidParameter, MalformedBody
from foundry.gateway.delivery import Receive
from foundry.gateway.exchange import Exchange
from foundry.gateway.snapshot import Index
from foundry.types.snapshot import KeyEntry

ANTHROPIC_VERSION = b"anthropic-version"
_LOOK_AHEAD = 64
"""Objects read at once while a page is filled."""
_encoder = msgspec.json.Encoder()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """One authorised request to a stateful endpoint."""

    exchange: Exchange
    key: KeyEntry
    index: Index
    """The configuration that the request was authorised by."""
    id: str
    """The id in the path, as the caller wrote it; empty where the path has none."""
    query: Mapping[str, str]
    headers: dict[bytes, bytes]
    receive: Receive
    """The body as it comes, for those that stream it."""
    body: Callable[[], Awaitable[bytes]]
    """Reads the body whole, within `max_body_bytes`."""

    @property
    def project_id(self) -> str:
        """The tenant, whose objects alone can be seen."""
        return self.key.project_id

    @property
    def for_anthropic(self) -> bool:
        """Anthropic's clients ask, and read Anthropic's shapes."""
        return ANTHROPIC_VERSION in self.headers


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer."""

    body: bytes | AsyncIterator[bytes]
    content_type: str = JSON
    length: int | None = None
    """Bytes of a streamed body, where known."""


Handler = Callable[[Asked], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list is asked for: `after` (an id, exclusive), `limit`, `order`."""

    after: str | None
    limit: int
    newest_first: bool

    @classmethod
    def of(cls, query: Mapping[str, str], *, default: int, most: int) -> Paging:
        """From the query. Raises InvalidParameter."""
        text = query.get("limit", str(default))
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise InvalidParameter(
                f"'limit' is '{text[:20]}': it must be a number from 1 to {most}", param="limit"
            )
        order = query.get("order", "desc")
        if order not in {"asc", "desc"}:
            raise InvalidParameter(f"'order' is '{order[:20]}': it must be 'asc' or 'desc'", param="order")
        return cls(query.get("after"), int(text), order == "desc")

    def order(self, ids: Sequence[str]) -> list[str]:
        """Of ids that sort by time, those behind the cursor in the order asked for. The cursor need not exist any more."""
        ordered = sorted(ids, reverse=self.newest_first)
        if self.after is None:
            return ordered
        after = self.after
        return [item for item in ordered if (item < after if self.newest_first else item > after)]

    async def fill(
        self,
        ids: Sequence[str],
        load: Callable[[Sequence[str]], Awaitable[Sequence[T | None]]],
        wanted: Callable[[T], bool],
    ) -> tuple[list[T], bool]:
        """The page's items, and whether there are more. Reads no further than the page needs."""
        ordered, found = self.order(ids), list[T]()
        for start in range(0, len(ordered), _LOOK_AHEAD):
            loaded = await load(ordered[start : start + _LOOK_AHEAD])
            found += [item for item in loaded if item is not None and wanted(item)]
            if len(found) > self.limit:
                break
        return found[: self.limit], len(found) > self.limit


def listing(items: Sequence[object], ids: Sequence[str], *, has_more: bool) -> Reply:
    """A page as OpenAI's lists look."""
    return reply_json(
        {
            "object": "list",
            "data": items,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
            "has_more": has_more,
        }
    )


def reply_json(value: object) -> Reply:
    """A whole JSON answer."""
    return Reply(_encoder.encode(value))


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A body as its type. Raises MalformedBody when it is no JSON, InvalidParameter naming the member that is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"the body is not what this endpoint reads: {error}") from error
    except RecursionError as error:
        raise MalformedBody("the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body is not valid JSON: {error}") from error
