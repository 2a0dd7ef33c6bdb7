"""Where requests of one route wait when every target that could serve them is at its cap.

First come, first served: a place that becomes free is handed to the longest-waiting request that it can serve, and never
passes through the open. A caller that leaves, leaves the queue. Nothing polls: a wait ends by a hand-over, by the moment
at which a resting target may be asked again, or by its deadline. What it does not know: HTTP, policies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from foundry.errors import QueueFull
from foundry.gateway.routing.targets import Candidate, Clock, Lease, TargetState
from foundry.types.routing import Queue

RETRY_AFTER_S = 1.0
"""Told to whoever finds the queue full."""


class _Waiter:
    __slots__ = ("by_state", "candidates", "woken")

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.by_state = {candidate.state: candidate for candidate in candidates}
        self.woken: asyncio.Future[Candidate | None] = asyncio.get_running_loop().create_future()
        """With the candidate whose place was handed over, or None: look again."""


class RouteQueue:
    """The queue of one route, on one replica of the gateway."""

    __slots__ = ("_clock", "_waiters")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: dict[_Waiter, None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, candidates: Sequence[Candidate], limits: Queue, route: str) -> Lease | None:
        """A place at one of the candidates; None when none of them is fit any more. Raises QueueFull."""
        if len(self._waiters) >= limits.max_waiting:
            raise QueueFull(
                f"every target of '{route}' is at its cap and {len(self._waiters)} requests wait already",
                retry_after_s=RETRY_AFTER_S,
            )
        waiter = _Waiter(candidates)
        self._join(waiter)
        try:
            return await self._wait(waiter, self._clock() + limits.deadline_s)
        except TimeoutError as error:
            raise QueueFull(
                f"no target of '{route}' had room within {limits.deadline_s:g} s", retry_after_s=RETRY_AFTER_S
            ) from error
        finally:
            self._leave(waiter)

    async def _wait(self, waiter: _Waiter, deadline: float) -> Lease | None:
        while True:
            now = self._clock()
            if now >= deadline:
                raise TimeoutError
            wake_at = min(deadline, *(_looks_again_at(candidate, now) for candidate in waiter.candidates))
            try:
                async with asyncio.timeout(max(0.0, wake_at - now)):
                    handed = await asyncio.shield(waiter.woken)
            except TimeoutError:
                handed = None
            if waiter.woken.done():  # also when the hand-over and the timer came together
                handed = waiter.woken.result()
                waiter.woken = asyncio.get_running_loop().create_future()
            now = self._clock()
            if handed is not None:
                return handed.take_over(now)
            fit = [candidate for candidate in waiter.candidates if candidate.fit(now)]
            for candidate in fit:
                if candidate.has_room_in_turn():
                    return candidate.enter(now)
            if not fit:
                return None

    def freed(self, state: TargetState) -> bool:
        """Called when a request of `state` ended. True: its place was handed over."""
        now = self._clock()
        for waiter in self._waiters:
            candidate = waiter.by_state.get(state)
            if candidate is None or waiter.woken.done():
                continue
            if not candidate.fit(now):
                self._look_again(state)
                return False
            if candidate.cap is not None and state.in_flight > candidate.cap:
                return False  # a newer snapshot lowered it
            waiter.woken.set_result(candidate)
            return True
        return False

    def _look_again(self, state: TargetState) -> None:
        for waiter in self._waiters:
            if state in waiter.by_state and not waiter.woken.done():
                waiter.woken.set_result(None)

    def _join(self, waiter: _Waiter) -> None:
        self._waiters[waiter] = None
        for state in waiter.by_state:
            state.waiting += 1
            state.rooms[self] = None

    def _leave(self, waiter: _Waiter) -> None:
        del self._waiters[waiter]
        for state in waiter.by_state:
            state.waiting -= 1
            if not any(state in other.by_state for other in self._waiters):
                state.rooms.pop(self, None)
        if waiter.woken.done() and (handed := waiter.woken.result()) is not None:
            handed.state.release()  # handed over to one that has just left


def _looks_again_at(candidate: Candidate, now: float) -> float:
    """When time alone makes this candidate fit; never, if it is fit already or that depends on others."""
    at = candidate.fit_at(now)
    return at if at > now else float("inf")
