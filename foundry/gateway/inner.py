"""Requests that the gateway makes to itself, on the key of a caller who was authorised before: lines of batches, embeddings of
the semantic cache, responses in the background, questions of guards.

They take the whole lifecycle: the key is looked up again in the current snapshot, limits hold, a record is written. What it
does not know: who asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from foundry.codecs.base import Codec
from foundry.errors import FoundryError
from foundry.gateway.delivery import Receive, Scope, Send
from foundry.gateway.exchange import Exchange
from foundry.types.usage import UsageCounts


class Infers(Protocol):
    """The lifecycle, as far as it is needed here."""

    async def infer(
        self,
        codec: Codec,
        exchange: Exchange,
        headers: dict[bytes, bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve one inference request."""
        ...


@dataclass(frozen=True, slots=True)
class InnerAnswer:
    """What a caller would have been sent."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    counts: UsageCounts

    @classmethod
    def of(cls, error: FoundryError, body: bytes) -> InnerAnswer:
        """What a caller would be sent for an error."""
        headers = {} if error.retry_after_s is None else {b"retry-after": b"%d" % error.retry_after_s}
        return cls(error.status, headers, body, UsageCounts())

    @property
    def retry_after_s(self) -> float | None:
        """The wait that the answer asks for."""
        value = self.headers.get(b"retry-after", b"")
        return float(value) if value.isdigit() else None


class Inner:
    """Asks the lifecycle in this process. `bind` comes before the first request: the lifecycle has parts that ask it."""

    def __init__(self) -> None:
        self._lifecycle: Infers | None = None

    def bind(self, lifecycle: Infers) -> None:
        """The lifecycle to ask."""
        self._lifecycle = lifecycle

    async def ask(
        self,
        codec: Codec,
        body: bytes,
        *,
        key_hash: str,
        request_id: str | None = None,
        batch_id: str = "",
        answer_id: str = "",
        for_guard: bool = False,
        within: Exchange | None = None,
    ) -> InnerAnswer:
        """One whole request; errors come as the answer that a caller would see. within: the request that it is a part of; what
        it uses is charged, but it is not one more request, nor one more at a time. Raises SpoolFull when no record can be
        kept."""
        assert self._lifecycle is not None  # noqa: S101  bound when the gateway is made
        exchange = Exchange(codec.name, request_id)
        exchange.acting_for, exchange.batch_id, exchange.answer_id = key_hash, batch_id, answer_id
        exchange.for_guard = for_guard
        if within is not None:
            exchange.within = within.reservation or within.within
        status, headers, parts = 0, dict[bytes, bytes](), list[bytes]()
        given = False

        # Any: the ASGI specification's own type, here and below
        async def receive() -> MutableMapping[str, Any]:
            nonlocal given
            if given:
                await asyncio.Event().wait()  # this caller never goes away
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:  # Any: as above
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], dict(message["headers"])
            else:
                parts.append(message.get("body", b""))

        scope = {"type": "http", "method": "POST", "path": codec.path, "client": None, "query_string": b""}
        sent = {b"content-type": b"application/json", b"content-length": b"%d" % len(body)}
        await self._lifecycle.infer(codec, exchange, sent, scope, receive, send)
        return InnerAnswer(status, headers, b"".join(parts), exchange.counts())
