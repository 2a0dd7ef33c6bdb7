"""What goes back to the caller: whole answers, streams, errors; each after its usage record is written.

What it does not know: which target answers (`lifecycle.py`), wire formats (`codecs/`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import aiohttp

from foundry.codecs.base import BYTES_PER_TOKEN, JSON, SSE, Answer, Codec, Meter
from foundry.errors import FoundryError, SpoolFull, UpstreamBroke
from foundry.gateway.exchange import Attempt, Exchange
from foundry.gateway.transport import Transport
from foundry.types.usage import UsageCounts, UsageRecord

Scope = MutableMapping[str, Any]  # Any: the ASGI specification's own type
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]  # Any: the ASGI specification's own type
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]  # Any: the ASGI specification's own type
Headers = list[tuple[bytes, bytes]]

OK = 200
_STREAM_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class UsageSink(Protocol):
    """Where usage records go; writing is durable when `append` returns."""

    def append(self, record: UsageRecord) -> None:
        """Write one record. Raises a FoundryError when it cannot be kept."""
        ...


class BrokenOff(Exception):
    """The answer has begun and cannot be ended properly: the connection is closed so that the caller sees it is not whole."""


class Delivery:
    """Sends answers; one instance per gateway replica.

    sends_request_id: False where the server adds `x-request-id` to every answer itself, as Ray Serve does.
    """

    def __init__(
        self, *, transport: Transport, sink: UsageSink, cluster: str, gateway: str, sends_request_id: bool
    ) -> None:
        self._transport = transport
        self._sink = sink
        self._cluster = cluster
        self._gateway = gateway
        self._sends_request_id = sends_request_id

    def settle(self, exchange: Exchange) -> None:
        """Write the usage record, once. Synchronous: it also runs under cancellation. Raises SpoolFull."""
        if not exchange.settled:
            exchange.settled = True
            self._sink.append(exchange.record(cluster=self._cluster, gateway=self._gateway))

    async def answer(self, exchange: Exchange, answer: Answer, send: Send) -> None:
        """Send a whole answer, after settling."""
        body = answer.body
        exchange.status, exchange.response_bytes, exchange.outcome = OK, len(body), "completed"
        self.settle(exchange)
        headers = self._headers(exchange, _whole_headers(answer.content_type, body))
        if exchange.cost_usd is not None:
            headers.append((b"x-foundry-cost-usd", f"{exchange.cost_usd:f}".encode()))
        await send({"type": "http.response.start", "status": OK, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def refuse(self, exchange: Exchange, error: FoundryError, body: bytes, send: Send) -> None:
        """Send an error as the whole answer, after settling."""
        exchange.status, exchange.response_bytes = error.status, len(body)
        self.settle(exchange)
        headers = self._headers(exchange, _whole_headers(JSON, body))
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def replay(self, codec: Codec, exchange: Exchange, events: bytes, send: Send) -> None:
        """Send a stream that is whole already, after settling."""
        exchange.status, exchange.response_bytes, exchange.outcome = OK, len(events), "completed"
        exchange.first_token_ns = exchange.last_token_ns = time.perf_counter_ns()
        self.settle(exchange)
        content_type = (b"content-type", codec.stream_type(SSE).encode())
        headers = self._headers(exchange, [content_type, *_STREAM_HEADERS])
        await send({"type": "http.response.start", "status": OK, "headers": headers})
        await send({"type": "http.response.body", "body": events})

    async def pieces(
        self,
        exchange: Exchange,
        pieces: AsyncIterator[bytes],
        content_type: str,
        length: int | None,
        send: Send,
    ) -> None:
        """Send a body that comes in pieces from our own store. One piece is always held back, so that the record is written
        before the last byte goes out. Raises BrokenOff when the pieces end in an error."""
        held = await anext(pieces, b"")
        exchange.status = OK
        headers = self._headers(exchange, [(b"content-type", content_type.encode())])
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": OK, "headers": headers})
        try:
            async for piece in pieces:
                exchange.response_bytes += len(held)
                await send({"type": "http.response.body", "body": held, "more_body": True})
                held = piece
        except FoundryError as error:
            exchange.fail(error)
            raise BrokenOff from error
        exchange.response_bytes += len(held)
        exchange.outcome = "completed"
        self.settle(exchange)
        await send({"type": "http.response.body", "body": held})

    async def stream(
        self,
        codec: Codec,
        exchange: Exchange,
        attempt: Attempt,
        meter: Meter,
        response: aiohttp.ClientResponse,
        send: Send,
    ) -> None:
        """Pass events on as they come. The head goes out with the first of them: an upstream that fails before is refused
        like one that never answered, with a status of its own. What came with the end marker goes out with ours."""
        start = self._stream_start(codec, exchange, response)
        last, begun = b"", False
        try:
            async for data in self._transport.stream(response):
                out = _feed(meter, data, exchange)
                if meter.ended and meter.error is None:
                    last = out
                    break
                if out:
                    if not begun:
                        begun, exchange.status = True, OK  # also for a record made under cancellation
                        await send(start)
                    await send({"type": "http.response.body", "body": out, "more_body": True})
            else:
                last = meter.close()
            _require_whole(meter)
            last += meter.tail()
            attempt.outcome = exchange.outcome = "completed"
        except FoundryError as error:
            if not begun:
                raise
            attempt.fail(error)
            exchange.fail(error)
            last = codec.error_event(error, exchange.request_id)
        finally:
            _count_stream(exchange, attempt, meter)
        exchange.status = OK
        try:
            self.settle(exchange)
        except SpoolFull as error:
            last = codec.error_event(error, exchange.request_id)
        if last is None:
            raise BrokenOff
        if not begun:
            await send(start)
        await send({"type": "http.response.body", "body": last})
        await self._transport.drain(response)

    def _stream_start(
        self, codec: Codec, exchange: Exchange, response: aiohttp.ClientResponse
    ) -> MutableMapping[str, Any]:  # Any: the ASGI specification's own type
        content_type = (b"content-type", codec.stream_type(response.content_type).encode())
        headers = self._headers(exchange, [content_type, *_STREAM_HEADERS])
        return {"type": "http.response.start", "status": OK, "headers": headers}

    def _headers(self, exchange: Exchange, headers: Headers) -> Headers:
        if self._sends_request_id:
            headers.append((b"x-request-id", exchange.request_id.encode()))
        if exchange.cache:
            headers.append((b"x-foundry-cache", exchange.cache.encode()))
        attempt = exchange.attempt
        if attempt is not None:
            headers.append((b"x-foundry-target", attempt.upstream.target_id.encode()))
        return headers


def count_answer(exchange: Exchange, attempt: Attempt, answer: Answer) -> None:
    """What the target told, or our own estimate."""
    if answer.counts is not None:
        attempt.count(answer.counts, "reported")
    else:
        attempt.count(_estimate(exchange, answer.estimated_output_tokens), "estimated")


def _whole_headers(content_type: str, body: bytes) -> Headers:
    return [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]


def _feed(meter: Meter, data: bytes, exchange: Exchange) -> bytes:
    out = meter.feed(data)
    exchange.last_token_ns = time.perf_counter_ns()
    if meter.started and not exchange.first_token_ns:
        exchange.first_token_ns = exchange.last_token_ns
    exchange.response_bytes += len(out)
    return out


def _require_whole(meter: Meter) -> None:
    """Raises UpstreamBroke when the stream reported an error or stopped before its end marker."""
    if meter.error is not None:
        raise UpstreamBroke(f"the upstream failed in the middle of its answer: {meter.error}")
    if not meter.ended:
        raise UpstreamBroke("the upstream ended its answer half-way")


def _count_stream(exchange: Exchange, attempt: Attempt, meter: Meter) -> None:
    """Final counts if the stream is whole, running ones if it was cut, our own if the upstream told
    nothing."""
    counts = meter.counts()
    if counts is not None:
        attempt.count(counts, "reported" if meter.ended else "partial")
    elif meter.started:
        attempt.count(_estimate(exchange, meter.estimated_output_tokens()), "estimated")


def _estimate(exchange: Exchange, output_tokens: int) -> UsageCounts:
    if exchange.estimated is not None:
        return exchange.estimated
    return UsageCounts(
        input_tokens=-(-exchange.request_bytes // BYTES_PER_TOKEN), output_tokens=output_tokens
    )
