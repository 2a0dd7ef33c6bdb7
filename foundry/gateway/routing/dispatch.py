"""From a route to an answer that has begun: targets, queue, hold, retries, hedging, fallbacks; nothing has gone out before.

    order by policy -> first that is fit and has room -> ask -> (failed?) next target -> same again -> fallback routes

The rules are in docs/routing.md. What it does not know: wire formats (`codecs/`), how one target is asked (`asking.py`), how
the answer is sent (`delivery.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from foundry.errors import FoundryError, Unavailable, UpstreamTimeout
from foundry.gateway.routing.asking import Ask, Asker, Live
from foundry.gateway.routing.continuation import Continuation, Transcript, may_continue
from foundry.gateway.routing.hedge import Begin, hedged
from foundry.gateway.routing.hold import Holder
from foundry.gateway.routing.plan import Board, Plan
from foundry.gateway.routing.retries import verdict_on
from foundry.gateway.routing.targets import Candidate, Lease
from foundry.gateway.routing.tries import Tries
from foundry.gateway.snapshot import Index, Route


class Dispatcher:
    """Carries requests to their answers; one per gateway replica."""

    def __init__(self, board: Board, asker: Asker, holder: Holder) -> None:
        self._board = board
        self._asker = asker
        self._holder = holder

    async def begin(self, ask: Ask, index: Index, route: Route) -> Live:
        """An answer that has begun. Raises why there is none; the exchange has every attempt either way."""
        plan = self._board.plan(index, route)
        total_s = plan.patience.total_s
        if total_s is None:
            return await self._begin(ask, index, plan)
        ask.deadline = asyncio.get_running_loop().time() + total_s
        try:
            async with asyncio.timeout_at(ask.deadline):
                return await self._begin(ask, index, plan)
        except TimeoutError as error:
            raise too_long(plan.name) from error

    async def resume(self, ask: Ask, live: Live, error: FoundryError) -> Live | None:
        """A stream broke off after its first byte: another answer that goes on from there; the same one if nothing was
        missing but its end; None if the route or the protocol has no such thing, or nobody can go on."""
        live.broke_off(ask.exchange, error, self._board.clock())
        said, tries = live.said, ask.tries
        if said is None or tries is None:
            return None
        words = said.text()
        if said.finished:
            return live
        if not words or not said.plain:
            return None
        ask.continuation = Continuation(ask.codec.name, said, ask.exchange.counts())
        live.close()
        try:
            tries.failed(live.lease.candidate, error, self._board.clock())
            async with asyncio.timeout_at(ask.deadline):
                following = await self._run(ask, tries)
        except (FoundryError, TimeoutError):
            return None  # the caller is told the first error: the second would only confuse
        if following.answer is not None:
            following.close()
            return None  # it was asked for a stream and answered whole
        following.said = said
        return following

    async def _begin(self, ask: Ask, index: Index, plan: Plan) -> Live:
        try:
            return await self._on(ask, index, plan)
        except FoundryError as error:
            if not plan.routing.fallbacks or not _falls_back(error):
                raise
            return await self._fall_back(ask, index, plan, error)

    async def _fall_back(self, ask: Ask, index: Index, plan: Plan, error: FoundryError) -> Live:
        """The next routes, in order and depth first. Raises the error of the first route that asked a target."""
        for following in self._fallbacks(ask, index, plan):
            ask.exchange.fallback = following.name
            try:
                return await self._on(ask, index, following)
            except FoundryError as failure:
                if not _falls_back(failure):
                    raise
                if verdict_on(error).skip and not verdict_on(failure).skip:
                    error = failure
        raise error

    def _fallbacks(self, ask: Ask, index: Index, plan: Plan) -> Iterator[Plan]:
        """Routes that exist, compute the same, and were not asked yet."""
        for name in plan.routing.fallbacks:
            route = index.routes.get(name)
            if route is None or name in ask.asked or route.entry.task not in ask.codec.tasks:
                continue
            following = self._board.plan(index, route)
            yield following
            yield from self._fallbacks(ask, index, following)

    async def _on(self, ask: Ask, index: Index, plan: Plan) -> Live:
        """All tries on one route."""
        ask.asked.append(plan.name)
        ask.exchange.policy = plan.routing.policy
        excluded = ask.exchange.excluded
        if excluded:
            plan.require_allowed(excluded)
        plan.memory.budget.request(self._board.clock())
        if plan.starting:
            return await self._hold(ask, index, plan)
        tries = ask.tries = Tries(plan, plan.order(ask.call, excluded), self._board.random)
        live = await self._run(ask, tries)
        if plan.routing.midstream == "continue" and may_continue(ask.codec.name, ask.call):
            live.said = Transcript()
        return live

    async def _run(self, ask: Ask, tries: Tries) -> Live:
        clock, plan = self._board.clock, tries.plan
        while True:
            lease = tries.take(clock()) or await self._make_room(ask, tries)
            try:
                if plan.routing.hedge is None:
                    return await self._asker.begin(ask, lease, plan.patience)
                return await self._hedged(ask, tries, lease)
            except FoundryError as error:
                tries.failed(lease.candidate, error, clock())

    async def _make_room(self, ask: Ask, tries: Tries) -> Lease:
        """Wait for a target that only lacks room, or for one that may be tried a second time. Raises why there is none."""
        clock = self._board.clock
        lease = None
        if full := tries.full(clock()):
            lease = await self._queue(ask, tries, full)
        if lease is None and (again := tries.again(clock())) is not None:
            candidate, wait_s = again
            await asyncio.sleep(wait_s)
            if candidate.fit(clock()):
                lease = (
                    candidate.enter(clock())
                    if candidate.has_room()
                    else await self._queue(ask, tries, [candidate])
                )
        if lease is None:
            raise tries.nobody(clock())
        return lease

    async def _queue(self, ask: Ask, tries: Tries, full: list[Candidate]) -> Lease | None:
        plan, started_ns = tries.plan, time.perf_counter_ns()
        try:
            return await plan.memory.queue.wait(full, plan.routing.queue, plan.name)
        finally:
            ask.exchange.queue_ms += (time.perf_counter_ns() - started_ns) / 1e6

    async def _hold(self, ask: Ask, index: Index, plan: Plan) -> Live:
        """Nobody is ready and an engine is starting: ask the overflow route, or wait for it."""
        overflow = index.routes.get(plan.routing.hold.overflow_route or "")
        if overflow is not None and overflow.entry.name not in ask.asked:
            ask.exchange.fallback = overflow.entry.name
            self._holder.want(plan)
            return await self._on(ask, index, self._board.plan(index, overflow))
        started_ns = time.perf_counter_ns()
        try:
            newer, ready = await self._holder.until_ready(ask, plan)
        finally:
            ask.exchange.queue_ms += (time.perf_counter_ns() - started_ns) / 1e6
        return await self._on(ask, newer, ready)

    async def _hedged(self, ask: Ask, tries: Tries, lease: Lease) -> Live:
        plan, clock, hedge = tries.plan, self._board.clock, tries.plan.routing.hedge
        assert hedge is not None  # noqa: S101  the caller has looked

        def first() -> Coroutine[Any, Any, Live]:  # Any: the loop's own
            return self._asker.begin(ask, lease, plan.patience)

        def second() -> Begin | None:
            other = tries.take(clock(), but=lease.candidate)
            if other is None:
                return None
            if not plan.memory.budget.take_hedge(clock(), hedge.max_share):
                other.close()
                return None
            return lambda: self._beside(ask, tries, other)

        return await hedged(ask.exchange, first, hedge.after_ms / 1000.0, second)

    async def _beside(self, ask: Ask, tries: Tries, lease: Lease) -> Live:
        try:
            return await self._asker.begin(ask, lease, tries.plan.patience, hedged=True)
        except FoundryError as error:
            tries.failed_beside(lease.candidate, error, self._board.clock())
            raise


def too_long(route: str) -> UpstreamTimeout:
    """The route's bound on the whole answer is reached."""
    return UpstreamTimeout(f"'{route}' did not answer in full within the time that the route allows")


def _falls_back(error: FoundryError) -> bool:
    """Whether another route may do better: not where the caller is at fault."""
    return isinstance(error, Unavailable) or verdict_on(error).other
