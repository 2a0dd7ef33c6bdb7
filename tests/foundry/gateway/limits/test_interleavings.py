"""Random interleavings of requests on several replicas, in virtual time: nothing is exceeded beyond the bound, nobody is refused
while there is room."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundry.errors import LimitExceeded, LimitsUnavailable
from tests.foundry.gateway.limits.cluster import NOON, Cluster, Request, binding, demand, limit, use
from tests.support.virtual_time import passes, run

pytestmark = pytest.mark.long

_SETTINGS = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
_DELAYS = st.sampled_from([0.0, 0.001, 0.05, 0.3])
_SEEDS = st.integers(0, 10**6)
_REPLICAS = st.integers(1, 4)


@st.composite
def loads(draw: st.DrawFn, *, exact: bool = True, spread: int = 80) -> list[Request]:
    """exact: nobody uses more than it reserves. spread: tenths of a second in which the requests come."""
    numbers = random.Random(draw(_SEEDS))
    found: list[Request] = []
    for _ in range(draw(st.integers(1, 60))):
        estimate = numbers.randint(1, 30)
        found.append(
            Request(
                replica=numbers.randint(0, 3),
                at=numbers.randint(0, spread) / 10,
                lasts=numbers.choice([0.0, 0.01, 0.3, 2.0, 5.0]),
                estimate=estimate,
                truth=numbers.randint(0, estimate if exact else 60),
                cancelled_after=numbers.choice([None, None, None, 0.1, 0.6]),
            )
        )
    return found


async def _play(cluster: Cluster, load: list[Request]) -> None:
    cluster.start()
    await cluster.play(load)
    await cluster.stop()


def _never_over(cluster: Cluster) -> None:
    for at in cluster.instants():
        for start in {request.start for request in cluster.done}:
            assert cluster.in_use(at, start, pending=False) <= cluster.cap()


def _all_told(cluster: Cluster) -> None:
    assert not [request for request in cluster.done if request.outcome in {"unavailable", "pending"}]


@_SETTINGS
@given(loads(), _REPLICAS, st.sampled_from([0, 1, 20, 100, 300]), _SEEDS, _DELAYS,
       st.sampled_from(["usd", "tokens", "output_tokens"]))  # fmt: skip
def test_with_honest_estimates_nothing_is_exceeded_and_nobody_is_refused_wrongly(
    load: list[Request], replicas: int, cap: int, seed: int, delay: float, meter: str
) -> None:
    amount = f"0.{cap:06d}" if meter == "usd" else cap
    cluster = Cluster(binding(limit(meter, amount)), replicas, seed, delay)
    run(_play(cluster, load))
    assert cluster.cap() == cap
    _never_over(cluster)
    cluster.check_refusals()
    _all_told(cluster)


@_SETTINGS
@given(loads(exact=False), _REPLICAS, st.sampled_from([1, 20, 100, 300]), _SEEDS, _DELAYS)
def test_when_requests_use_more_than_they_reserve_the_bound_holds(
    load: list[Request], replicas: int, cap: int, seed: int, delay: float
) -> None:
    cluster = Cluster(binding(limit("tokens", cap)), replicas, seed, delay)
    run(_play(cluster, load))
    cluster.check_bound(slack_s=6 * delay + 1e-6)
    cluster.check_refusals()
    _all_told(cluster)


@_SETTINGS
@given(loads(), _REPLICAS, st.sampled_from([0, 1, 3, 10]), _SEEDS, _DELAYS)
def test_concurrency_is_never_exceeded_and_never_refused_while_there_is_room(
    load: list[Request], replicas: int, cap: int, seed: int, delay: float
) -> None:
    cluster = Cluster(binding(limit("concurrency", cap)), replicas, seed, delay)
    run(_play(cluster, load))
    _never_over(cluster)
    cluster.check_refusals()
    _all_told(cluster)


@_SETTINGS
@given(loads(spread=300), _REPLICAS, st.sampled_from([1, 5, 40]), _SEEDS, _DELAYS, st.sampled_from(["second", "minute"]),
       st.sampled_from(["requests", "tokens"]))  # fmt: skip
def test_each_window_has_its_own_count(
    load: list[Request], replicas: int, cap: int, seed: int, delay: float, window: str, meter: str
) -> None:
    cluster = Cluster(binding(limit(meter, cap, window=window)), replicas, seed, delay, base=NOON - 15)
    run(_play(cluster, load))
    _never_over(cluster)
    cluster.check_refusals()
    _all_told(cluster)


@_SETTINGS
@given(loads(), _REPLICAS, st.sampled_from([20, 100, 300]), _SEEDS, st.sampled_from([0.001, 0.05, 0.3]),
       st.floats(0, 0.4), st.lists(st.integers(1, 90), max_size=3), st.sampled_from(["tokens", "concurrency"]))  # fmt: skip
def test_lost_messages_and_restarts_of_the_ledger_exceed_nothing(
    tmp_path_factory: pytest.TempPathFactory, load: list[Request], replicas: int, cap: int, seed: int, delay: float,
    loss: float, restarts: list[int], meter: str,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("ledger") / "journal.jsonl"
    cap = cap if meter == "tokens" else cap // 20
    cluster = Cluster(binding(limit(meter, cap)), replicas, seed, delay, loss=loss, journal=path)

    async def main() -> None:
        cluster.start()
        playing = asyncio.create_task(cluster.play(load))
        for moment in sorted(restarts):
            await passes(max(0.0, moment / 10 - cluster.now()))
            cluster.kill_ledger()
            await passes(0.2)
            cluster.start_ledger()
        await playing
        await cluster.stop()

    run(main())
    _never_over(cluster)
    cluster.check_refusals()


@_SETTINGS
@given(loads(), st.integers(2, 4), st.sampled_from([20, 100, 300]), _SEEDS, _DELAYS, st.integers(1, 60),
       st.sampled_from(["tokens", "concurrency"]))  # fmt: skip
def test_a_replica_that_dies_costs_at_most_its_slice(
    load: list[Request], replicas: int, cap: int, seed: int, delay: float, moment: int, meter: str
) -> None:
    cap = cap if meter == "tokens" else cap // 20
    cluster = Cluster(binding(limit(meter, cap)), replicas, seed, delay, recall_s=2.0)
    lost: list[int] = []

    async def main() -> None:
        cluster.start()
        playing = asyncio.create_task(cluster.play(load))
        await passes(moment / 10)
        await cluster.kill(0)
        await playing
        await passes(11)
        lost.append(cluster.lost_by(0))
        await cluster.stop()

    run(main())
    _never_over(cluster)
    cluster.check_refusals(extra=lost[0] if meter == "tokens" else cap)
    assert lost[0] <= cap
    if meter == "concurrency":
        assert lost[0] == 0  # it came back


def test_after_a_restart_the_ledger_knows_what_the_dead_had(tmp_path: Path) -> None:
    cluster = Cluster(binding(limit("tokens", 100)), 2, journal=tmp_path / "journal.jsonl")

    async def main() -> None:
        cluster.start()
        (await cluster.reserve(0, 60)).settle(use(60))
        await cluster.kill(0)
        cluster.kill_ledger()
        cluster.start_ledger()
        with pytest.raises(LimitExceeded):
            await cluster.reserve(1, 60)
        await cluster.reserve(1, 30)
        await cluster.stop()

    run(main())


def test_a_restarted_ledger_without_its_journal_learns_from_the_living(tmp_path: Path) -> None:
    cluster = Cluster(binding(limit("tokens", 100)), 2)

    async def main() -> None:
        cluster.start()
        (await cluster.reserve(0, 60)).settle(use(60))
        cluster.kill_ledger()
        cluster.start_ledger()
        await passes(8)
        with pytest.raises(LimitExceeded):
            await cluster.reserve(1, 60)
        await cluster.stop()

    run(main())


def test_while_the_ledger_is_away_slices_serve_and_then_requests_are_told_to_come_back() -> None:
    cluster = Cluster(binding(limit("requests", 1000)), 1, delay_s=0.01, wait_s=3.0)

    async def main() -> None:
        cluster.start()
        for _ in range(20):
            await cluster.reserve(0, 1)
        await passes(1)
        cluster.kill_ledger()
        assert cluster.limiters[0].try_reserve(cluster.bound, demand(1)) is not None
        served = 0
        began = 0.0
        with pytest.raises(LimitsUnavailable):
            while True:
                began = cluster.now()
                await cluster.reserve(0, 1)
                served += 1
        assert served
        assert cluster.now() - began == pytest.approx(3.0, abs=0.2)
        began = cluster.now()
        with pytest.raises(LimitsUnavailable):
            await cluster.reserve(0, 1)
        assert cluster.now() == began  # known to be away: nobody waits
        cluster.start_ledger()
        await passes(5)
        await cluster.reserve(0, 1)
        await cluster.stop()

    run(main())


def test_a_full_load_needs_few_words_with_the_ledger() -> None:
    cluster = Cluster(binding(limit("requests", 100_000, window="hour")), 2, delay_s=0.02)
    slow = 0

    async def main() -> None:
        nonlocal slow
        cluster.start()
        for _ in range(4000):
            await passes(0.002)
            for limiter in cluster.limiters:
                wants = demand(1)
                if limiter.try_reserve(cluster.bound, wants) is None:
                    slow += 1
                    await limiter.reserve(cluster.bound, wants)
        await cluster.stop()

    run(main())
    assert slow < 40  # of 8000


def test_a_lower_cap_binds_at_once_and_a_higher_one_lets_on() -> None:
    cluster = Cluster(binding(limit("requests", 1000)), 2, delay_s=0.01)

    async def main() -> None:
        cluster.start()
        for _ in range(10):
            await cluster.reserve(0, 1)
        cluster.bound = binding(limit("requests", 5), version=2)
        for number in (0, 1):
            with pytest.raises(LimitExceeded):
                await cluster.reserve(number, 1)
        cluster.bound = binding(limit("requests", 11), version=3)
        await cluster.reserve(1, 1)
        with pytest.raises(LimitExceeded):
            await cluster.reserve(0, 1)
        await cluster.stop()

    run(main())
