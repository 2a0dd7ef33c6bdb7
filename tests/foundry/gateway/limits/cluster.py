"""Replicas and a ledger in virtual time, joined by a network that delays, loses and is cut; and what really happened.

The truth is kept from outside: a request is *reserved* from its call until it is settled, and *spent* from then on.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from foundry.errors import LimitExceeded, LimitsUnavailable
from foundry.gateway.limits.journal import Journal
from foundry.gateway.limits.ledger import Ledger
from foundry.gateway.limits.limiter import Limiter, Reservation, Use
from foundry.gateway.limits.rules import METERS, USD, Binding, Demand, LimitRules, usd_to_units
from foundry.gateway.limits.wire import Calls, CounterId, Reply, Report
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.limits import LimitEntry
from foundry.types.money import Price
from foundry.types.snapshot import EngineTarget, KeyEntry, RouteEntry, Snapshot
from foundry.types.usage import UsageCounts
from tests.support.virtual_time import passes

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()
KEY = KeyEntry(key_id="k", key_hash="0" * 64, organization_id="o", project_id="p", scopes=("inference",))
MICRO = Decimal("0.000001")


def limit(
    meter: str, amount: int | str, *, name: str = "l", window: str | None = "day", **more: Any
) -> LimitEntry:
    fields: dict[str, Any] = {
        "scope": "project",
        "window": None if meter == "concurrency" else window,
        **more,
    }
    return LimitEntry.model_validate({"name": name, "meter": meter, "amount": Decimal(amount), **fields})


def target(model: str = "m", price: Price | None = None) -> EngineTarget:
    return EngineTarget(
        target_id=f"engine/{model}", model=model, deployment=model, base_url="http://127.0.0.1:9",
        phase=DeploymentPhase.READY, price=price,
    )  # fmt: skip


def rules(*limits: LimitEntry, targets: tuple[EngineTarget, ...] = (), version: int = 1) -> LimitRules:
    price = Price(price_id="x", input_per_mtok_usd=Decimal(1), output_per_mtok_usd=Decimal(1), source="test")
    route = RouteEntry(
        name="r", task=Task.GENERATE, targets=targets or (target(price=price),), created_at=datetime.now(UTC)
    )
    return LimitRules(
        Snapshot(
            cluster="c",
            version=version,
            issued_at=datetime.now(UTC),
            keys=(KEY,),
            routes=(route,),
            limits=limits,
        )
    )


def binding(*limits: LimitEntry, version: int = 1) -> Binding:
    found = rules(*limits, version=version).binding(KEY, "r")
    assert found is not None
    return found


def demand(tokens: int) -> Demand:
    """So many output tokens, a micro-dollar each, and no input."""
    return (1, 1, tokens, tokens, 1, tokens * usd_to_units(MICRO))


def use(tokens: int) -> Use:
    return Use(UsageCounts(output_tokens=tokens), tokens * MICRO)


@dataclass
class Request:
    """One request of the load, and what became of it."""

    replica: int
    at: float
    lasts: float
    estimate: int
    truth: int
    cancelled_after: float | None = None
    outcome: str = "pending"
    began: float = 0.0
    admitted: float | None = None
    ended: float | None = None
    start: int = 0
    """Of the window it counts in."""

    def excess(self) -> int:
        return max(0, self.truth - self.estimate)


class Network:
    """One replica's way to the ledger that is there at the moment."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.cut = False

    async def _cross(self) -> None:
        cluster = self._cluster
        await passes(cluster.rng.uniform(0, cluster.delay_s))
        if self.cut or cluster.ledger is None or cluster.rng.random() < cluster.loss:
            await passes(cluster.rng.uniform(0, 3))
            raise LimitsUnavailable("lost")

    async def sync(self, report: Report) -> Reply:
        await self._cross()
        ledger = self._cluster.ledger
        if ledger is None:
            raise LimitsUnavailable("down")
        reply = await ledger.sync(report)
        await self._cross()
        return reply

    async def watch(self, replica: str, epoch: str, seen: int) -> Calls:
        await self._cross()
        ledger = self._cluster.ledger
        if ledger is None:
            raise LimitsUnavailable("down")
        calls = await ledger.watch(replica, epoch, seen)
        await self._cross()
        return calls


@dataclass
class Cluster:
    """Use inside `virtual_time.run`."""

    bound: Binding
    replicas: int
    seed: int = 0
    delay_s: float = 0.2
    loss: float = 0.0
    recall_s: float = 1e6
    wait_s: float = 60.0
    journal: Path | None = None
    base: float = NOON
    ledger: Ledger | None = None
    limiters: list[Limiter] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)
    done: list[Request] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)
    open: dict[int, list[Reservation]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._stamps = 0
        self._ledger_task: asyncio.Task[None] | None = None

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def stamp(self) -> float:
        """The time, and in its ninth decimal the order of what happens at one time."""
        self._stamps += 1
        return self.now() + self._stamps * 1e-9

    def wall(self) -> float:
        return self.base + self.now()

    def start(self) -> None:
        self.start_ledger()
        for _ in range(self.replicas):
            self.add_replica()

    def add_replica(self) -> int:
        network = Network(self)
        number = len(self.limiters)
        made = Limiter(network, f"gw-{number}", wall=self.wall, monotonic=self.now, wait_s=self.wait_s)
        made.start()
        self.networks.append(network)
        self.limiters.append(made)
        self.open[number] = []
        return number

    def start_ledger(self) -> None:
        journal = Journal(self.journal) if self.journal else None
        self.ledger = Ledger(journal, wall=self.wall, monotonic=self.now, recall_s=self.recall_s)
        self._ledger_task = asyncio.create_task(self.ledger.run())

    def kill_ledger(self) -> None:
        assert self._ledger_task is not None
        assert self.ledger is not None
        self._ledger_task.cancel()
        self.ledger.close()
        self.ledger = None

    async def kill(self, number: int) -> None:
        """The replica dies, and its requests with it."""
        self.dead.add(number)
        await self.limiters[number].shares.kill()

    async def stop(self) -> None:
        for number, made in enumerate(self.limiters):
            if number not in self.dead:
                await made.shares.kill()
        if self._ledger_task is not None:
            self._ledger_task.cancel()
        if self.ledger is not None:
            self.ledger.close()

    async def play(self, load: list[Request]) -> None:
        await asyncio.gather(*(self._request(request) for request in load))

    async def _request(self, request: Request) -> None:
        await passes(max(0.0, request.at - self.now()))
        number = request.replica % len(self.limiters)
        request.replica = number
        if number in self.dead:
            return
        request.began = self.stamp()
        request.start = self.bound.fixed[0][0].at(self.wall())[0]
        self.done.append(request)
        try:
            async with asyncio.timeout(request.cancelled_after):
                held = await self.reserve(number, request.estimate)
        except LimitExceeded:
            request.outcome, request.ended = "refused", self.stamp()
            return
        except TimeoutError:
            request.outcome, request.ended = "cancelled", self.stamp()
            return
        except LimitsUnavailable:
            request.outcome, request.ended = "unavailable", self.stamp()
            return
        request.outcome, request.admitted = "admitted", self.stamp()
        await passes(request.lasts)
        if number in self.dead:
            request.outcome = "died"
            return
        request.ended = self.stamp()
        held.settle(use(request.truth))

    async def reserve(self, number: int, tokens: int) -> Reservation:
        wants, limiter = demand(tokens), self.limiters[number]
        return limiter.try_reserve(self.bound, wants) or await limiter.reserve(self.bound, wants)

    def lost_by(self, number: int) -> int:
        """What the ledger still counts for a replica that it did not really use."""
        assert self.ledger is not None
        start = self.bound.fixed[0][0].at(self.wall())[0]
        tally = self.ledger.tally(CounterId(self.bound.fixed[0][1][0], self.bound.fixed[0][1][1], start))
        entry = tally.entries.get(f"gw-{number}") if tally else None
        return entry.claim - entry.spent if entry else 0

    # -- the truth ---------------------------------------------------------------------------------------------------

    def cap(self) -> int:
        rule = self.bound.fixed[0][0]
        return rule.cap // usd_to_units(MICRO) if rule.meter == USD else rule.cap

    def _weight(self, tokens: int) -> int:
        return 1 if METERS[self.bound.fixed[0][0].meter] in {"requests", "concurrency"} else tokens

    def in_use(self, at: float, start: int, *, pending: bool, but: Request | None = None) -> int:
        """Reserved and spent in one window at an instant. pending: requests count from their call if they are admitted later, and
        while they wait if they are given up."""
        gauge = METERS[self.bound.fixed[0][0].meter] == "concurrency"
        total = 0
        for request in self.done:
            held = request.admitted is not None or (
                pending and (request.outcome == "cancelled" or request.replica in self.dead)
            )
            begins = request.began if pending else request.admitted
            if request is but or request.start != start or not held or begins is None or begins > at:
                continue
            if request.ended is None or request.ended > at:
                total += self._weight(request.estimate)
            elif not gauge and request.admitted is not None:
                total += self._weight(request.truth)
        return total

    def instants(self) -> list[float]:
        return sorted({t for r in self.done for t in (r.began, r.admitted, r.ended) if t is not None})

    def check_bound(self, slack_s: float) -> None:
        """At any moment: used in a window <= cap + what those requests use beyond their reserve that were in flight when the last
        one before was admitted, or settled less than `slack_s` before that."""
        for start in {request.start for request in self.done}:
            admitted = [
                (r, r.admitted, r.ended) for r in self.done if r.start == start and r.admitted is not None
            ]
            for at in self.instants():
                last = max((begun for _, begun, _ in admitted if begun <= at), default=0.0)
                late = [
                    r
                    for r, begun, ended in admitted
                    if begun <= at and ended is not None and ended >= last - slack_s
                ]
                used, excess = (
                    self.in_use(at, start, pending=False),
                    sum(request.excess() for request in late),
                )
                assert used <= self.cap() + excess, (used, self.cap(), excess, at)

    def check_refusals(self, extra: int = 0) -> None:
        """Each refused request found, at some instant of its life, no room. extra: lost with replicas that died."""
        for refused in self.done:
            if refused.outcome != "refused":
                continue
            assert refused.ended is not None
            life = [refused.began, *(t for t in self.instants() if refused.began <= t <= refused.ended)]
            most = max(self.in_use(at, refused.start, pending=True, but=refused) for at in life)
            least = min(self.in_use(at, refused.start, pending=True, but=refused) for at in life)
            assert most + extra + self._weight(refused.estimate) > self.cap(), (
                refused,
                most,
                least,
                self.cap(),
            )
