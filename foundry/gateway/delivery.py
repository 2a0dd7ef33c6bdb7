"""What goes back to the caller: whole answers, streams, errors; each after its usage record is written.

What it does not know: which target answers (`lifecycle.py`), wire formats (`codecs/`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol, get_args

from foundry.codecs.base import JSON, SSE, Answer, Codec
from foundry.errors import (
    FoundryError,
    GuardrailBlocked,
    GuardrailUnavailable,
    LimitExceeded,
    SpoolFull,
    UpstreamTimeout,
)
from foundry.gateway.exchange import Exchange
from foundry.gateway.guardrails.streams import UNGUARDED, Passage
from foundry.gateway.progress import Progress
from foundry.gateway.routing.asking import Ask, Live, require_whole
from foundry.gateway.transport import Transport
from foundry.types.routing import Policy
from foundry.types.usage import UsageRecord

Scope = MutableMapping[str, Any]  # Any: the ASGI specification's own type
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]  # Any: the ASGI specification's own type
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]  # Any: the ASGI specification's own type
Message = MutableMapping[str, Any]  # Any: the ASGI specification's own type
Headers = list[tuple[bytes, bytes]]
Resume = Callable[[Ask, Live, FoundryError], Awaitable[Live | None]]
"""Told of a stream that broke off; where it goes on (`Dispatcher.resume`)."""

OK = 200
_POLICIES = {policy: (b"x-foundry-policy", policy.encode()) for policy in get_args(Policy)}
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
        self,
        *,
        transport: Transport,
        sink: UsageSink,
        progress: Progress,
        cluster: str,
        gateway: str,
        sends_request_id: bool,
    ) -> None:
        self._transport = transport
        self._sink = sink
        self._progress = progress
        self._cluster = cluster
        self._gateway = gateway
        self._sends_request_id = sends_request_id

    def settle(self, exchange: Exchange) -> None:
        """Write the usage record, once. Synchronous: it also runs under cancellation. Raises SpoolFull."""
        if not exchange.settled:
            exchange.settled = True
            try:
                record = exchange.record(cluster=self._cluster, gateway=self._gateway)
            finally:
                exchange.settle_limits()
            try:
                self._sink.append(record)
            finally:
                self._progress.end(exchange)

    async def answer(self, exchange: Exchange, answer: Answer, send: Send) -> None:
        """Send a whole answer, after its guards looked at it and after settling."""
        if exchange.guard is not None:
            answer = await exchange.guard.check_output(answer)
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
        if isinstance(error, LimitExceeded):
            headers += error.headers
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def replay(self, exchange: Exchange, events: bytes, content_type: str, send: Send) -> None:
        """Send a stream that is whole already, after its guards looked at it and after settling."""
        if exchange.guard is not None:
            guard = exchange.guard.stream()
            events = await guard.feed(events) + await guard.finish()
        exchange.status, exchange.response_bytes, exchange.outcome = OK, len(events), "completed"
        exchange.first_token_ns = exchange.last_token_ns = time.perf_counter_ns()
        self.settle(exchange)
        headers = self._headers(exchange, [(b"content-type", content_type.encode()), *_STREAM_HEADERS])
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
        self._progress.begin(exchange, None)
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

    async def stream(self, ask: Ask, live: Live, send: Send, resume: Resume) -> None:
        """Pass a stream on as it comes; `live` belongs to this call. The head goes out with the first events, what came with
        the end marker goes out with ours. A stream that breaks off is resumed where the route says so, else it ends with an
        error event."""
        exchange, codec = ask.exchange, ask.codec
        start = self._stream_start(codec, exchange, live.response.content_type if live.response else SSE)
        guard = exchange.guard.stream() if exchange.guard is not None else UNGUARDED
        try:
            self._progress.begin(exchange, live)
            while True:
                try:
                    last = await _pass_on(ask, guard, live, start, send)
                    live.attempt.outcome = exchange.outcome = "completed"
                    break
                except (
                    GuardrailBlocked,
                    GuardrailUnavailable,
                ) as error:  # not the target's fault: no other is asked
                    last = _refused(ask, live, error)
                    break
                except FoundryError as error:
                    following = await resume(ask, live, error)
                    if following is None or following is live:
                        last = await _ending(ask, guard, live, error, whole=following is live)
                        break
                    live = following
                    self._progress.begin(exchange, live)
            live.count(exchange)
            await self._end(ask, live, last, start, send)
        finally:
            live.count(exchange)
            live.close()

    async def _end(self, ask: Ask, live: Live, last: bytes | None, start: Message, send: Send) -> None:
        """Settle, then send the last of a stream."""
        exchange = ask.exchange
        exchange.status = OK
        try:
            self.settle(exchange)
        except SpoolFull as error:
            last = ask.codec.error_event(error, exchange.request_id)
        if last is None:
            raise BrokenOff
        if not exchange.head_sent:
            exchange.head_sent = True
            await send(start)
        await send({"type": "http.response.body", "body": last})
        if live.response is not None:
            await self._transport.drain(live.response)

    async def comment(self, codec: Codec, exchange: Exchange, send: Send, words: str) -> None:
        """Tell a caller who waits for a stream something that is not part of it."""
        if not exchange.head_sent:
            self._progress.begin(exchange, None)
            exchange.head_sent, exchange.status = True, OK
            await send(self._stream_start(codec, exchange, SSE))
        await send({"type": "http.response.body", "body": f": {words}\n\n".encode(), "more_body": True})

    async def break_off(self, codec: Codec, exchange: Exchange, error: FoundryError, send: Send) -> None:
        """End a stream whose head has gone out, and nothing else, with an error. Raises BrokenOff where there is no such event."""
        last = codec.error_event(error, exchange.request_id)
        self.settle(exchange)
        if last is None:
            raise BrokenOff
        await send({"type": "http.response.body", "body": last})

    def _stream_start(self, codec: Codec, exchange: Exchange, upstream_type: str) -> Message:
        content_type = (b"content-type", codec.stream_type(upstream_type).encode())
        headers = self._headers(exchange, [content_type, *_STREAM_HEADERS])
        return {"type": "http.response.start", "status": OK, "headers": headers}

    def _headers(self, exchange: Exchange, headers: Headers) -> Headers:
        """Who answered and how it came to that, besides the request id."""
        if self._sends_request_id:
            headers.append((b"x-request-id", exchange.request_id.encode()))
        if exchange.policy:
            headers.append(_POLICIES[exchange.policy])
        if exchange.cache:
            headers.append((b"x-foundry-cache", exchange.cache.encode()))
        if exchange.decisions is not None and (decided := exchange.decisions.header()):
            headers.append((b"x-foundry-guardrails", decided.encode()))
        attempts = exchange.attempts
        if attempts:
            headers.append((b"x-foundry-target", attempts[-1].upstream.target_id.encode()))
            headers.append((b"x-foundry-attempts", b"%d" % len(attempts)))
        if exchange.fallback:
            headers.append((b"x-foundry-fallback", exchange.fallback.encode()))
        if exchange.queue_ms:
            headers.append((b"x-foundry-queue-ms", b"%.1f" % exchange.queue_ms))
        if exchange.reservation is not None:
            headers += exchange.reservation.headers()
        return headers


async def _pass_on(ask: Ask, guard: Passage, live: Live, start: Message, send: Send) -> bytes:
    """All of a stream but the last of it, which it gives back. Raises what ended it early."""
    if ask.deadline is None:
        return await _pass_all(ask.exchange, guard, live, start, send)
    try:
        async with asyncio.timeout_at(ask.deadline):
            return await _pass_all(ask.exchange, guard, live, start, send)
    except TimeoutError as error:
        live.said = None  # there is no time left to go on in
        raise UpstreamTimeout("the answer took longer than the route allows") from error


async def _pass_all(exchange: Exchange, guard: Passage, live: Live, start: Message, send: Send) -> bytes:
    meter, chunks, said = live.meter, live.chunks, live.said
    assert meter is not None  # noqa: S101  only streams come here
    assert chunks is not None  # noqa: S101  as above
    out = live.hear_first(exchange)
    if said is not None:
        said.add(out)  # what the target said, not what the guard lets out: another target goes on from there
    out = await guard.feed(out)
    if not meter.ended or meter.error is not None:
        await _send_on(exchange, out, start, send)
    if not meter.ended and meter.error is None:
        async for data in chunks:
            out = live.hear(exchange, data)
            if said is not None:
                said.add(out)
            out = await guard.feed(out)
            if meter.ended and meter.error is None:
                break
            await _send_on(exchange, out, start, send)
            if meter.error is not None:
                break
        else:
            out = await guard.feed(live.rest())
    require_whole(meter)
    return out + await guard.finish() + meter.tail()


async def _send_on(exchange: Exchange, out: bytes, start: Message, send: Send) -> None:
    if not out:
        return
    if not exchange.head_sent:
        exchange.head_sent, exchange.status = True, OK  # also for a record made under cancellation
        await send(start)
    await send({"type": "http.response.body", "body": out, "more_body": True})


def _refused(ask: Ask, live: Live, error: FoundryError) -> bytes | None:
    """Of a stream that a guard ended: the error as an event. Raises it where nothing has gone out yet."""
    live.attempt.fail(error)
    if not ask.exchange.head_sent:
        raise error
    ask.exchange.fail(error)
    return ask.codec.error_event(error, ask.exchange.request_id)


async def _ending(ask: Ask, guard: Passage, live: Live, error: FoundryError, *, whole: bool) -> bytes | None:
    """Of a stream that broke off: its end, if nothing else was missing, or the error."""
    exchange, meter = ask.exchange, live.meter
    if whole and meter is not None:
        exchange.outcome = "completed"
        return await guard.finish() + meter.tail()
    exchange.fail(error)
    return ask.codec.error_event(error, exchange.request_id)


def _whole_headers(content_type: str, body: bytes) -> Headers:
    return [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
