"""What a replica knows of each target: in flight, waiting, measured time to first token, rests, breakers.

`TargetState` is per `target_id` and outlives snapshots. `Candidate` is one target as one route of one snapshot names it,
bound to its state. What it does not know: in which order candidates are asked (`policies/`), HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Protocol

from foundry.gateway.routing.health import Breaker
from foundry.gateway.upstream import Upstream
from foundry.types.deployment import STARTING_PHASES
from foundry.types.routing import Health
from foundry.types.snapshot import EngineTarget, ProviderTarget

_TTFT_WEIGHT = 0.2
"""Of the newest measurement in the moving average: about the last ten requests count."""


class Room(Protocol):
    """Who is told when a target has room again."""

    def freed(self, state: TargetState) -> bool:
        """A request of `state` ended. True: its place was handed to one that waited, and stays taken."""
        ...


class TargetState:
    """One target, as this replica of the gateway sees it."""

    __slots__ = ("breakers", "cool_until", "in_flight", "rooms", "target_id", "ttft_ms", "waiting")

    def __init__(self, target_id: str) -> None:
        self.target_id = target_id
        self.in_flight = 0
        """Requests sent and not ended, of every route."""
        self.waiting = 0
        """Requests in queues that this target could serve."""
        self.ttft_ms: float | None = None
        """Moving average over streamed answers; None before the first."""
        self.cool_until = 0.0
        """It answered 429: not to be asked before this moment."""
        self.breakers: dict[Health, Breaker] = {}
        self.rooms: dict[Room, None] = {}
        """Queues in which somebody waits for it, the longest-served last."""

    def breaker(self, health: Health) -> Breaker:
        """The breaker for one route's rules."""
        found = self.breakers.get(health)
        if found is None:
            found = self.breakers[health] = Breaker(health)
        return found

    def release(self) -> None:
        """One request ended: the longest-waiting queue takes its place, or it is free."""
        if not self.rooms or not self._handed_over():
            self.in_flight -= 1

    def _handed_over(self) -> bool:
        for room in list(self.rooms):
            if room.freed(self):
                if room in self.rooms:  # others had to wait: next time it is their turn
                    del self.rooms[room]
                    self.rooms[room] = None
                return True
        return False


class Candidate:
    """One target of one route in one snapshot."""

    __slots__ = (
        "blocked",
        "breaker",
        "canary_percent",
        "cap",
        "hash64",
        "shadow_percent",
        "starting",
        "state",
        "upstream",
        "usd_per_input_token",
        "usd_per_output_token",
        "watch",
        "weight",
    )

    def __init__(
        self, target: EngineTarget | ProviderTarget, upstream: Upstream, state: TargetState, health: Health
    ) -> None:
        self.upstream = upstream
        self.watch: Callable[[Candidate], None] | None = None
        """Told when the breaker has opened, where its route wants probes."""
        self.blocked = upstream.error
        """Why it cannot be asked in this snapshot at all: its engine is not ready, or its secret is missing."""
        self.state = state
        self.breaker = state.breaker(health)
        self.weight = target.weight
        self.cap = target.max_concurrency
        self.canary_percent = target.canary_percent
        self.shadow_percent = target.shadow_percent
        self.starting = isinstance(target, EngineTarget) and target.phase in STARTING_PHASES
        self.hash64 = int.from_bytes(blake2b(target.target_id.encode(), digest_size=8).digest(), "little")
        price = target.price
        # Floats only rank targets; what is charged is Decimal (`pricing/cost.py`).
        known = price is not None and price.input_per_mtok_usd is not None
        self.usd_per_input_token = float(price.input_per_mtok_usd or 0) / 1e6 if price and known else None
        output = price.output_per_mtok_usd if price else None
        self.usd_per_output_token = float(output or 0) / 1e6

    def has_room(self) -> bool:
        """Whether its cap allows one more, and nobody waits for it."""
        return self.cap is None or (self.state.in_flight < self.cap and not self.state.waiting)

    def has_room_in_turn(self) -> bool:
        """Whether its cap allows one more, for one that has waited."""
        return self.cap is None or self.state.in_flight < self.cap

    def fit(self, now: float) -> bool:
        """Whether it is healthy and not resting; says nothing about room."""
        breaker = self.breaker
        return (
            self.blocked is None
            and (breaker.state == "closed" or breaker.allows(now))
            and now >= self.state.cool_until
        )

    def fit_at(self, now: float) -> float:
        """The next moment at which `fit` can turn true; `now` if that depends on a trial in flight."""
        opens = self.breaker.open_until if self.breaker.state == "open" else now
        return max(opens, self.state.cool_until)

    def enter(self, now: float) -> Lease:
        """Take one place. Call only when `fit` and `has_room`."""
        self.state.in_flight += 1
        return Lease(self, trial=self.breaker.enter(now))

    def take_over(self, now: float) -> Lease:
        """Take a place that another request handed over: it is counted already."""
        return Lease(self, trial=self.breaker.enter(now))


class Lease:
    """One place at a target, from before it is asked until its answer is over. `close` is owed, once; more are harmless."""

    __slots__ = ("_answered", "_closed", "_trial", "candidate")

    def __init__(self, candidate: Candidate, *, trial: bool) -> None:
        self.candidate = candidate
        self._trial = trial
        self._answered = self._closed = False

    def answered(self, now: float, ttft_ms: float | None) -> None:
        """The first byte came. ttft_ms: of a streamed answer, else None."""
        self._answered = True
        state = self.candidate.state
        candidate = self.candidate
        candidate.breaker.answered(now, ttft_ms, trial=self._trial)
        if len(state.breakers) > 1:
            for breaker in self._others():
                breaker.answered(now, ttft_ms, trial=False)
        if ttft_ms is not None:
            old = state.ttft_ms
            state.ttft_ms = ttft_ms if old is None else old + _TTFT_WEIGHT * (ttft_ms - old)
        if candidate.watch is not None:
            self._call_for_probes()

    def failed(self, now: float) -> None:
        """The target is to blame: it did not answer, or broke off after `answered`."""
        for breaker in self._others():
            breaker.broke(now) if self._answered else breaker.failed(now, trial=False)
        if self._answered:
            self.candidate.breaker.broke(now)
        else:
            self._answered = True
            self.candidate.breaker.failed(now, trial=self._trial)
        self._call_for_probes()

    def cool(self, until: float) -> None:
        """The target asked not to be asked before `until`."""
        self.candidate.state.cool_until = max(self.candidate.state.cool_until, until)

    def close(self) -> None:
        """Give the place back."""
        if self._closed:
            return
        self._closed = True
        if not self._answered:
            self.candidate.breaker.abandoned(trial=self._trial)
        self.candidate.state.release()

    def _call_for_probes(self) -> None:
        candidate = self.candidate
        if candidate.watch is not None and candidate.breaker.state == "open":
            candidate.watch(candidate)

    def _others(self) -> Iterator[Breaker]:
        """Breakers of routes that judge the same target by other rules: they hear of it too."""
        own = self.candidate.breaker
        return (breaker for breaker in self.candidate.state.breakers.values() if breaker is not own)


Clock = Callable[[], float]
"""Seconds that only go forward (`time.monotonic`)."""
