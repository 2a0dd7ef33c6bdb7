"""One turn of the Responses API in the lifecycle: what was said before is put in front of its input, and its answer is kept
before the last byte goes out.

What it does not know: how a target is asked, where responses lie (`store.py`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import structlog

from foundry.codecs.base import Call
from foundry.codecs.fields import flag, member, text
from foundry.codecs.replay import REPLAYS
from foundry.codecs.responses_codec import RESPONSES
from foundry.errors import InvalidParameter, ObjectStoreUnavailable
from foundry.gateway.delivery import Send
from foundry.gateway.exchange import Exchange
from foundry.gateway.stateful.responses.store import Responses, items_of, view
from foundry.telemetry import new_id
from foundry.types.responses import StoredResponse

log = structlog.get_logger()

MAX_ANCESTORS = 1000
_FALSE = msgspec.Raw(b"false")
_input = msgspec.json.Decoder(str | list[msgspec.Raw])
_encoder = msgspec.json.Encoder()


class Turn:
    """What is kept of one request once it is answered."""

    __slots__ = ("ancestors", "call", "input", "project_id", "stores")

    def __init__(
        self,
        call: Call,
        project_id: str,
        ancestors: tuple[str, ...],
        items: tuple[msgspec.Raw, ...],
        *,
        stores: bool,
    ) -> None:
        self.call = call
        self.project_id = project_id
        self.ancestors = ancestors
        self.input = items
        self.stores = stores

    def stored(self, response: bytes, retention_s: float) -> StoredResponse:
        """The record for its response."""
        told = view.decode(response)
        created_at = int(told.created_at or time.time())
        return StoredResponse(
            id=told.id,
            created_at=created_at,
            expires_at=int(created_at + retention_s),
            status=told.status,
            ancestors=self.ancestors,
            input=self.input,
            response=msgspec.Raw(response),
        )


class Turns:
    """Reads and keeps turns."""

    def __init__(self, responses: Responses) -> None:
        self.responses = responses

    async def begin(self, exchange: Exchange, call: Call) -> Turn:
        """The call with the whole conversation as its input, and under an id of ours when its answer is kept. Raises
        InvalidParameter, PreviousResponseNotFound, ObjectStoreUnavailable."""
        if exchange.key is None or (
            "conversation" in call.fields and bytes(call.fields["conversation"]) != b"null"
        ):
            raise InvalidParameter(
                "'conversation' is not served: use 'previous_response_id'", param="conversation"
            )
        project_id, previous = exchange.key.project_id, text(call.fields, "previous_response_id")
        stores = (
            "store" not in call.fields or flag(call.fields, "store") or bytes(call.fields["store"]) == b"null"
        )
        own = _items(call)
        ancestors: tuple[str, ...] = ()
        if previous:
            before = await self.responses.conversation(project_id, previous)
            ancestors = tuple(stored.id for stored in before)
            if len(ancestors) > MAX_ANCESTORS:
                raise InvalidParameter(
                    f"this conversation has {len(ancestors)} turns, at most {MAX_ANCESTORS} are kept: begin a new one",
                    param="previous_response_id",
                )
            said = [item for stored in before for item in items_of(stored)]
            whole = msgspec.Raw(_encoder.encode([*said, *own]))
            fields = {**call.fields, "input": whole}
            # What limits reserve and estimates are made from: the conversation is part of what is asked.
            exchange.request_bytes += len(bytes(whole))
            call = msgspec.structs.replace(call, fields=fields)
        if stores or exchange.answer_id:
            call = msgspec.structs.replace(call, answer_id=exchange.answer_id or new_id("resp"))
        return Turn(call, project_id, ancestors, tuple(own), stores=stores)

    def keeping(self, turn: Turn, send: Send) -> Keeping:
        """Stands in for `send` and keeps the response before its last byte goes out."""

        async def keep(response: bytes) -> None:
            try:
                await self.responses.put(turn.project_id, turn.stored(response, self.responses.retention_s))
            except ObjectStoreUnavailable as error:
                # It is made and billed: its caller gets it, and is told 404 when they ask for it again.
                log.warning("response_not_stored", response_id=turn.call.answer_id, reason=error.message)
            except (
                msgspec.DecodeError,
                UnicodeDecodeError,
                RecursionError,
            ) as error:  # the target's own words, passed on
                log.warning("response_not_stored", response_id=turn.call.answer_id, reason=str(error))

        return Keeping(send, keep, turn.call)


class Keeping:
    """A `send` that holds a whole answer, or the last piece of a stream, until the response in it is kept."""

    __slots__ = ("_call", "_keep", "_send", "_start")

    def __init__(self, send: Send, keep: Callable[[bytes], Awaitable[None]], call: Call) -> None:
        self._send = send
        self._keep = keep
        self._call = call
        self._start: MutableMapping[str, Any] | None = None  # Any: the ASGI specification's own type

    # Any: the ASGI specification's own type
    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        """See the ASGI specification."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            response = body if start is not None and not self._call.stream else None
            if self._call.stream:
                response = REPLAYS[RESPONSES.name].whole(body, None)
            if response is not None and (start is None or start["status"] == 200):
                await self._keep(response)
        if start is not None:
            await self._send(start)
        await self._send(message)


def _items(call: Call) -> list[msgspec.Raw]:
    """The request's own input items. Raises InvalidParameter."""
    told = member(call.fields, "input", _input, "a text or an array of items")
    if told is None:
        return []
    if isinstance(told, str):
        return [msgspec.Raw(_encoder.encode({"type": "message", "role": "user", "content": told}))]
    return told
