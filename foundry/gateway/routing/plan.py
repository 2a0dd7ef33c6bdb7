"""A route made ready for choosing: its candidates, its policy, and what this replica remembers of it.

`Board` is all that one replica knows: states by `target_id`, memories by route name, plans by snapshot. Plans are made at a
route's first request in a snapshot; states outlive snapshots and go when no snapshot names them any more.
What it does not know: HTTP, how a request is carried out (`dispatch.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from foundry.codecs.base import Call
from foundry.errors import NoTargetAvailable
from foundry.gateway.routing.facts import Facts
from foundry.gateway.routing.policies import POLICIES
from foundry.gateway.routing.queue import RouteQueue
from foundry.gateway.routing.retries import Budget
from foundry.gateway.routing.targets import Candidate, Clock, TargetState
from foundry.gateway.snapshot import Index, Route
from foundry.gateway.transport import Patience, Transport

_PERCENT = 100.0
_RULED_OUT_RETRY_S = 1.0
"""Limits per model move with every request that ends; a limit that is used up for long refuses the request itself."""


class Memory:
    """What a replica remembers of one route from snapshot to snapshot."""

    __slots__ = ("budget", "held", "queue")

    def __init__(self, clock: Clock) -> None:
        self.budget = Budget()
        self.queue = RouteQueue(clock)
        self.held = 0
        """Requests that wait for an engine to start."""


class Plan:
    """One route of one snapshot."""

    __slots__ = (
        "_canaries", "_only", "_order", "_primaries", "_random", "memory", "name", "patience", "route", "routing", "serving",
        "shadows", "starting",
    )  # fmt: skip

    def __init__(
        self,
        route: Route,
        candidates: Sequence[Candidate],
        memory: Memory,
        patience: Patience,
        random: Random,
    ) -> None:
        self.route = route
        self.name = route.entry.name
        self.routing = route.entry.routing
        self.patience = patience
        self.memory = memory
        self.shadows = tuple(one for one in candidates if one.shadow_percent is not None)
        """Asked besides, never instead."""
        serving = self.serving = tuple(one for one in candidates if one.shadow_percent is None)
        """Primaries and canaries."""
        blocked = all(one.blocked is not None for one in serving)
        self.starting = tuple(one for one in serving if one.starting) if blocked else ()
        """Engines worth waiting for: not empty only when nobody else can serve."""
        self._canaries = tuple(one for one in serving if one.canary_percent is not None)
        self._primaries = tuple(one for one in serving if one.canary_percent is None)
        self._only = serving if len(serving) < 2 else None
        self._order = POLICIES[self.routing.policy]
        self._random = random

    def require_allowed(self, excluded: frozenset[str]) -> None:
        """Raises NoTargetAvailable when limits rule out every target for this request: another route may still serve it."""
        if all(one.upstream.target_id in excluded for one in self.serving):
            raise NoTargetAvailable(
                f"limits rule out every target of '{self.name}' for this request: the model's limit is reached, "
                "or a budget holds and the target has no price",
                retry_after_s=_RULED_OUT_RETRY_S,
            )

    def order(self, call: Call, excluded: frozenset[str] = frozenset()) -> Sequence[Candidate]:
        """Every target that may serve this request, best first. excluded: ids that limits rule out for it."""
        ordered = self._ordered(call)
        if excluded:
            return [one for one in ordered if one.upstream.target_id not in excluded]
        return ordered

    def _ordered(self, call: Call) -> Sequence[Candidate]:
        if self._only is not None:
            return self._only
        primaries = self._primaries
        ordered = self._order(primaries, Facts(call), self._random) if len(primaries) > 1 else list(primaries)
        if not self._canaries:
            return ordered
        drawn = self._random.random() * _PERCENT
        chosen: list[Candidate] = []
        rest: list[Candidate] = []
        for canary in self._canaries:
            share = canary.canary_percent or 0.0
            (chosen if not chosen and drawn < share else rest).append(canary)
            drawn -= share
        return [*chosen, *ordered, *rest]

    def shadowed(self) -> list[Candidate]:
        """The shadow targets that get a copy of this request, drawn one by one."""
        return [one for one in self.shadows if self._random.random() * _PERCENT < (one.shadow_percent or 0.0)]


class Board:
    """All that one replica of the gateway knows of routes and targets. random: every draw comes from it."""

    def __init__(self, *, transport: Transport, clock: Clock, random: Random) -> None:
        self._transport = transport
        self.watch: Callable[[Candidate], None] | None = None
        """Told of targets that go out and are to be probed."""
        self.clock = clock
        self.random = random
        self.targets: dict[str, TargetState] = {}
        self._memories: dict[str, Memory] = {}
        self._plans: dict[str, Plan] = {}
        self._index: Index | None = None

    def plan(self, index: Index, route: Route) -> Plan:
        """The plan of one of the index's routes."""
        if index is not self._index:
            self._adopt(index)
        name = route.entry.name
        plan = self._plans.get(name)
        if plan is None or plan.route is not route:
            plan = self._plans[name] = self._make(route)
        return plan

    def _make(self, route: Route) -> Plan:
        entry = route.entry
        memory = self._memories.setdefault(entry.name, Memory(self.clock))
        candidates = [
            Candidate(target, upstream, self._state(target.target_id), entry.routing.health)
            for target, upstream in zip(entry.targets, route.upstreams, strict=True)
        ]
        if entry.routing.health.probe_interval_s is not None:
            for candidate in candidates:
                candidate.watch = self.watch
        patience = self._transport.patience_of(entry.routing.timeouts)
        return Plan(route, candidates, memory, patience, self.random)

    def _state(self, target_id: str) -> TargetState:
        state = self.targets.get(target_id)
        if state is None:
            state = self.targets[target_id] = TargetState(target_id)
        return state

    def _adopt(self, index: Index) -> None:
        """A new snapshot: forget plans, and what it does not name any more unless requests are still on it."""
        self._index = index
        self._plans = {}
        named = {target.target_id for route in index.routes.values() for target in route.entry.targets}
        rules = frozenset(route.entry.routing.health for route in index.routes.values())
        for target_id, state in list(self.targets.items()):
            if target_id not in named and not state.in_flight and not state.waiting:
                del self.targets[target_id]
            for health in [*state.breakers.keys() - rules]:
                del state.breakers[health]
        for name in self._memories.keys() - index.routes.keys():
            if not self._memories[name].held and not len(self._memories[name].queue):
                del self._memories[name]
