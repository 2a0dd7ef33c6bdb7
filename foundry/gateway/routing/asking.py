"""One attempt: a target is asked, up to the first byte of its answer.

`Asker.begin` either returns a `Live` answer, or raises what went wrong while nothing has gone out to the caller yet. Either
way the attempt is on the exchange, and the target's health has been told. What it does not know: which target to ask, and
what to do about a failure (`dispatch.py`); how an answer is sent (`delivery.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import msgspec

from foundry.codecs.base import BYTES_PER_TOKEN, Answer, Call, Codec, Leg, Meter, UpstreamRequest
from foundry.errors import FoundryError, UpstreamBroke, UpstreamTimeout
from foundry.gateway.exchange import Attempt, Exchange
from foundry.gateway.refusals import refusal_from
from foundry.gateway.routing.continuation import Continuation, Spliced, Transcript
from foundry.gateway.routing.plan import Board
from foundry.gateway.routing.retries import COOL_S, verdict_on
from foundry.gateway.routing.targets import Lease
from foundry.gateway.routing.tries import Tries
from foundry.gateway.routing.waiting import Wait
from foundry.gateway.transport import Patience, Transport
from foundry.gateway.upstream import Way
from foundry.types.usage import UsageCounts

_OK = 200
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What codecs may raise over an answer: of the wrong shape, of bytes that are no text, too deep."""
_LONGEST_REST_S = 3600.0
"""Of a target that asks for more than this in `Retry-After`: after it, one request asks again."""


class Ask:
    """One request on its way to an answer."""

    __slots__ = (
        "asked", "call", "codec", "continuation", "deadline", "exchange", "held_until", "say", "tries", "wait",
    )  # fmt: skip

    def __init__(
        self,
        codec: Codec,
        call: Call,
        exchange: Exchange,
        wait: Wait,
        say: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.codec = codec
        self.call = call
        self.exchange = exchange
        self.wait = wait
        self.say = say
        """Tells a waiting caller something that is not part of the answer; None where that cannot be."""
        self.deadline: float | None = None
        """Loop time by which all of it must be over."""
        self.held_until: float | None = None
        """Loop time until which it waits for an engine to start."""
        self.asked: list[str] = []
        """Routes, in the order in which they were asked."""
        self.tries: Tries | None = None
        """Its choices on the route that was asked last."""
        self.continuation: Continuation | None = None
        """Set when a stream broke off: only the rest is asked for."""


class Live:
    """An answer: on its way at first, then begun or there whole. `close` is owed once it has begun; more are harmless."""

    __slots__ = ("answer", "attempt", "begun", "chunks", "first", "lease", "meter", "response", "said")

    def __init__(self, attempt: Attempt, lease: Lease) -> None:
        self.attempt = attempt
        self.lease = lease
        self.begun = False
        """The first byte is there: from now on the caller has it."""
        self.response: aiohttp.ClientResponse | None = None
        self.answer: Answer | None = None
        """The whole answer; None: a stream."""
        self.meter: Meter | None = None
        self.chunks: AsyncIterator[bytes] | None = None
        """What is still to come of a stream."""
        self.first = b""
        """What has come of it already, metered."""
        self.said: Transcript | None = None
        """What went to the caller, where another target may have to go on from there (`continuation.py`)."""

    def hear_first(self, exchange: Exchange) -> bytes:
        """What came already, timed."""
        exchange.last_token_ns = self.attempt.first_byte_ns
        if not exchange.first_token_ns and self.meter is not None and self.meter.started:
            exchange.first_token_ns = exchange.last_token_ns
        exchange.response_bytes += len(self.first)
        return self.first

    def hear(self, exchange: Exchange, data: bytes) -> bytes:
        """More of the stream: metered and timed; what goes on to the caller."""
        meter = self.meter
        assert meter is not None  # noqa: S101  only streams are heard
        out = self.feed(data)
        exchange.last_token_ns = time.perf_counter_ns()
        if not exchange.first_token_ns and meter.started:
            exchange.first_token_ns = exchange.last_token_ns
        exchange.response_bytes += len(out)
        return out

    def feed(self, data: bytes) -> bytes:
        """More of the stream, metered; what goes on to the caller. Raises UpstreamBroke when it cannot be read."""
        assert self.meter is not None  # noqa: S101  only streams are fed
        try:
            return self.meter.feed(data)
        except _UNREADABLE as error:
            raise _unreadable(self.attempt, error) from error

    def rest(self) -> bytes:
        """The upstream said all that it says: what is left for the caller. Raises UpstreamBroke."""
        assert self.meter is not None  # noqa: S101  only streams are heard
        try:
            return self.meter.close()
        except _UNREADABLE as error:
            raise _unreadable(self.attempt, error) from error

    def broke_off(self, exchange: Exchange, error: FoundryError, now: float) -> None:
        """It failed in the middle."""
        self.count(exchange)
        self.attempt.fail(error)
        self.lease.failed(now)

    def count(self, exchange: Exchange) -> None:
        """Final counts if the stream is whole, running ones if it was cut, our own if the target told nothing."""
        meter = self.meter
        if meter is None:
            return
        try:
            counts = meter.counts()
        except _UNREADABLE:  # it told something, but no counts
            counts = None
        if counts is not None:
            whole = meter.ended and meter.error is None
            self.attempt.count(counts, "estimated" if meter.estimates else "reported" if whole else "partial")
        elif meter.started:
            self.attempt.count(estimate(exchange, meter.estimated_output_tokens()), "estimated")

    def close(self) -> None:
        """Let go of the connection and of the place at the target."""
        if self.response is not None:
            self.response.close()
        self.lease.close()


class Asker:
    """Asks targets; one per gateway replica."""

    def __init__(self, transport: Transport, board: Board) -> None:
        self._transport = transport
        self._board = board

    async def begin(self, ask: Ask, lease: Lease, patience: Patience, *, hedged: bool = False) -> Live:
        """Ask the target whose place `lease` is; it belongs to the answer then. Raises what went wrong."""
        live = None
        try:
            upstream, rest = lease.candidate.upstream, ask.continuation
            way = upstream.way(ask.codec)
            call = ask.call if rest is None else rest.call(ask.call, upstream)
            request = way.leg.request(call, upstream.facts)
            live = Live(ask.exchange.begin(upstream, hedged=hedged), lease)
            if upstream.provider:
                await upstream.refresh()
            if patience.first_byte_s is None:
                await self._open(ask, live, way, request, patience)
                await self._read(ask, live, way.leg, patience)
            else:
                await self._in_time(ask, live, way, request, patience)
            return live  # noqa: TRY300  `finally` asks whether it has begun
        except FoundryError as error:
            if live is not None:
                live.attempt.fail(error)
                self._judge(lease, error)
            raise
        finally:
            if live is None or not live.begun:
                lease.close()
                if live is not None and live.response is not None:
                    live.count(ask.exchange)
                    live.response.close()

    async def _in_time(
        self, ask: Ask, live: Live, way: Way, request: UpstreamRequest, patience: Patience
    ) -> None:
        """The same with a bound of its own on the first byte."""
        limit = patience.first_byte_s
        try:
            async with asyncio.timeout(limit) as bound:
                response = await self._open(ask, live, way, request, patience)
                if not (ask.call.stream and way.leg.streams(response.content_type)):
                    bound.reschedule(None)  # the head of a whole answer is its first byte
                await self._read(ask, live, way.leg, patience)
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"{live.attempt.upstream.target_id} did not begin to answer within {limit:g} s"
            ) from error

    async def _open(
        self, ask: Ask, live: Live, way: Way, request: UpstreamRequest, patience: Patience
    ) -> aiohttp.ClientResponse:
        """Up to the head of an answer. Raises UpstreamRefused when it is an error."""
        attempt = live.attempt
        upstream = attempt.upstream
        url = upstream.url(way.wire, request.path)
        headers = upstream.headers(way, url, request, ask.exchange.request_id)
        response = live.response = await self._transport.open(url, headers, request.body, patience)
        attempt.status = response.status
        attempt.first_byte_ns = time.perf_counter_ns()
        if response.status != _OK:
            told = way.leg.told(await self._transport.read(response))
            raise refusal_from(response.status, response.headers, told, upstream.target_id)
        attempt.answered = True
        return response

    async def _read(self, ask: Ask, live: Live, leg: Leg, patience: Patience) -> None:
        """A whole answer, or a stream up to the first thing for the caller."""
        attempt, response = live.attempt, live.response
        assert response is not None  # noqa: S101  `_open` sets it or raises
        if ask.call.stream and leg.streams(response.content_type):
            await self._first(ask, live, leg, response)
            if patience.between_chunks_s is not None:
                self._transport.shorten_silence(response, patience.between_chunks_s)
            now_ns = attempt.first_byte_ns = time.perf_counter_ns()
            live.lease.answered(self._board.clock(), (now_ns - attempt.opened_ns) / 1e6)
        else:
            body = await self._transport.read(response)
            try:
                live.answer = leg.answer(ask.call, body, response.headers.get("content-type", ""))
            except _UNREADABLE as error:
                raise _unreadable(attempt, error) from error
            attempt.outcome = "completed"
            count_answer(ask.exchange, attempt, live.answer)
            live.lease.answered(self._board.clock(), None)
        live.begun = True

    async def _first(self, ask: Ask, live: Live, leg: Leg, response: aiohttp.ClientResponse) -> None:
        """Read on until there is something for the caller. Raises UpstreamBroke when it ends or fails before."""
        meter = leg.meter(ask.call)
        if ask.continuation is not None:
            meter = Spliced(meter, ask.continuation)
        live.meter = meter
        live.chunks = self._transport.stream(response)
        async for data in live.chunks:
            live.first = live.feed(data)
            if live.first or meter.ended or meter.error is not None:
                break
        else:
            live.first = live.rest()
        if not live.first:
            require_whole(meter)

    def _judge(self, lease: Lease, error: FoundryError) -> None:
        verdict, now = verdict_on(error), self._board.clock()
        if verdict.unhealthy:
            lease.failed(now)
        if verdict.cool:
            rest = COOL_S if error.retry_after_s is None else error.retry_after_s
            lease.cool(now + min(rest, _LONGEST_REST_S))


def _unreadable(attempt: Attempt, error: Exception) -> UpstreamBroke:
    return UpstreamBroke(f"{attempt.upstream.target_id} answered what cannot be read: {error}")


def require_whole(meter: Meter) -> None:
    """Raises UpstreamBroke when the stream reported an error or stopped before its end marker."""
    if meter.error is not None:
        raise UpstreamBroke(f"the upstream failed in the middle of its answer: {meter.error}")
    if not meter.ended:
        raise UpstreamBroke("the upstream ended its answer half-way")


def count_answer(exchange: Exchange, attempt: Attempt, answer: Answer) -> None:
    """What the target told of a whole answer, or our own estimate."""
    if answer.counts is not None:
        attempt.count(answer.counts, "reported")
    else:
        attempt.count(estimate(exchange, answer.estimated_output_tokens), "estimated")


def estimate(exchange: Exchange, output_tokens: int) -> UsageCounts:
    """Of a target that tells nothing: what the codec worked out beforehand, where it could, else by bytes."""
    if exchange.estimated is not None:
        return exchange.estimated
    return UsageCounts(
        input_tokens=-(-exchange.request_bytes // BYTES_PER_TOKEN), output_tokens=output_tokens
    )
