"""One attempt: a target is asked, up to the first byte of its answer.

`Asker.begin` either returns a `Live` answer, or raises what went wrong while nothing has gone out to the caller yet. Either
way the attempt is on the exchange, and the target's health has been told. What it does not know: which target to ask, and
what to do about a failure (`dispatch.py`); how an answer is sent (`delivery.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Never

import aiohttp

from foundry.codecs.base import BYTES_PER_TOKEN, Answer, Call, Codec, Leg, Meter
from foundry.errors import FoundryError, UpstreamBroke, UpstreamTimeout
from foundry.gateway.exchange import Attempt, Exchange
from foundry.gateway.refusals import refusal_from
from foundry.gateway.routing.continuation import Continuation, Spliced, Transcript
from foundry.gateway.routing.retries import COOL_S, verdict_on
from foundry.gateway.routing.targets import Clock, Lease
from foundry.gateway.routing.tries import Tries
from foundry.gateway.routing.waiting import Wait
from foundry.gateway.transport import Patience, Transport
from foundry.types.usage import UsageCounts

_OK = 200
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
    """An answer that has begun, or is there whole. `close` is owed, once; more are harmless."""

    __slots__ = ("answer", "attempt", "chunks", "content_type", "first", "lease", "meter", "response", "said")

    def __init__(
        self, attempt: Attempt, lease: Lease, response: aiohttp.ClientResponse, answer: Answer | None = None
    ) -> None:
        self.attempt = attempt
        self.lease = lease
        self.response = response
        self.answer = answer
        """The whole answer; None: a stream."""
        self.content_type = response.content_type
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
        out = meter.feed(data)
        exchange.last_token_ns = time.perf_counter_ns()
        if not exchange.first_token_ns and meter.started:
            exchange.first_token_ns = exchange.last_token_ns
        exchange.response_bytes += len(out)
        return out

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
        counts = meter.counts()
        if counts is not None:
            self.attempt.count(counts, "reported" if meter.ended else "partial")
        elif meter.started:
            self.attempt.count(estimate(exchange, meter.estimated_output_tokens()), "estimated")

    def close(self) -> None:
        """Let go of the connection and of the place at the target."""
        self.response.close()
        self.lease.close()


class Asker:
    """Asks targets; one per gateway replica."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock

    async def begin(self, ask: Ask, lease: Lease, patience: Patience, *, hedged: bool = False) -> Live:
        """Ask the target whose place `lease` is; it belongs to the answer then. Raises what went wrong."""
        attempt = None
        try:
            upstream = lease.candidate.upstream
            leg = upstream.leg(ask.codec)
            rest = ask.continuation
            call = ask.call if rest is None else rest.call(ask.call, upstream)
            request = leg.request(call, upstream.facts)
            attempt = ask.exchange.begin(upstream, hedged=hedged)
            headers = upstream.headers(request, ask.exchange.request_id)
            url = upstream.url(request.path)
            if patience.first_byte_s is None:
                response = await self._transport.open(url, headers, request.body, patience)
                return await self._read(ask, attempt, lease, leg, response)
            return await self._in_time(
                ask, attempt, lease, leg, patience, self._transport.open(url, headers, request.body, patience)
            )
        except FoundryError as error:
            if attempt is not None:
                attempt.fail(error)
                self._judge(lease, error)
            lease.close()
            raise
        except BaseException:
            lease.close()
            raise

    async def _in_time(
        self,
        ask: Ask,
        attempt: Attempt,
        lease: Lease,
        leg: Leg,
        patience: Patience,
        opening: Awaitable[aiohttp.ClientResponse],
    ) -> Live:
        """`_read` with a bound of its own on the first byte."""
        limit = patience.first_byte_s
        try:
            async with asyncio.timeout(limit) as bound:
                response = await opening
                if not (ask.call.stream and leg.streams(response.content_type)):
                    bound.reschedule(None)  # the head of a whole answer is its first byte
                self._transport.begun(response, patience)
                return await self._read(ask, attempt, lease, leg, response)
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"{attempt.upstream.target_id} did not begin to answer within {limit:g} s"
            ) from error

    async def _read(
        self, ask: Ask, attempt: Attempt, lease: Lease, leg: Leg, response: aiohttp.ClientResponse
    ) -> Live:
        try:
            attempt.status = response.status
            attempt.first_byte_ns = time.perf_counter_ns()
            if response.status != _OK:
                await self._refused(attempt, leg, response)
            attempt.answered = True
            if ask.call.stream and leg.streams(response.content_type):
                return await self._first(ask, attempt, lease, leg, response)
            body = await self._transport.read(response)
            answer = leg.answer(ask.call, body, response.headers.get("content-type", ""))
            attempt.outcome = "completed"
            count_answer(ask.exchange, attempt, answer)
            lease.answered(self._clock(), None)
            return Live(attempt, lease, response, answer)
        except BaseException:
            response.close()
            raise

    async def _refused(self, attempt: Attempt, leg: Leg, response: aiohttp.ClientResponse) -> Never:
        told = leg.told(await self._transport.read(response))
        raise refusal_from(response.status, response.headers, told, attempt.upstream.target_id)

    async def _first(
        self, ask: Ask, attempt: Attempt, lease: Lease, leg: Leg, response: aiohttp.ClientResponse
    ) -> Live:
        """Read on until there is something for the caller. Raises UpstreamBroke when it ends or fails before."""
        live = Live(attempt, lease, response)
        meter = leg.meter(ask.call)
        if ask.continuation is not None:
            meter = Spliced(meter, ask.continuation)
        live.meter = meter
        live.chunks = self._transport.stream(response)
        try:
            async for data in live.chunks:
                live.first = meter.feed(data)
                if live.first or meter.ended:
                    break
            else:
                live.first = meter.close()
            if not live.first:
                require_whole(meter)
        except BaseException:
            live.count(ask.exchange)
            raise
        now_ns = attempt.first_byte_ns = time.perf_counter_ns()
        lease.answered(self._clock(), (now_ns - attempt.opened_ns) / 1e6)
        return live

    def _judge(self, lease: Lease, error: FoundryError) -> None:
        verdict, now = verdict_on(error), self._clock()
        if verdict.unhealthy:
            lease.failed(now)
        if verdict.cool:
            rest = COOL_S if error.retry_after_s is None else error.retry_after_s
            lease.cool(now + min(rest, _LONGEST_REST_S))


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
