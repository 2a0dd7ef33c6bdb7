"""What one request takes, gives back and is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from foundry.errors import BudgetExhausted, LimitExceeded
from foundry.gateway.limits.journal import Journal, Row
from foundry.gateway.limits.ledger import Ledger
from foundry.gateway.limits.limiter import Limiter, Use
from foundry.gateway.limits.refusal import duration
from foundry.gateway.limits.rules import Binding, Demand
from foundry.gateway.limits.wire import CounterId
from foundry.types.limits import LimitEntry
from foundry.types.money import Price
from foundry.types.usage import UsageCounts
from tests.foundry.gateway.limits.cluster import KEY, Cluster, demand, limit, rules, target, use
from tests.support.virtual_time import run

PRICE = Price(price_id="x", input_per_mtok_usd=Decimal(1), output_per_mtok_usd=Decimal(1), source="test")


def _bound(*limits: LimitEntry, models: tuple[str, ...] = ("m",)) -> Binding:
    found = rules(*limits, targets=tuple(target(model, PRICE) for model in models)).binding(KEY, "r")
    assert found is not None
    return found


def _with_limiter(bound: Binding, play: Callable[[Limiter], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster = Cluster(bound, 1, delay_s=0.01)
        cluster.start()
        await play(cluster.limiters[0])
        await cluster.stop()

    run(main())


def _left(limiter: Limiter, name: str = "l") -> int:
    [part] = [part for key, part in limiter.shares.current.items() if key[0].startswith(name + "/")]
    return part.left


async def _refused(limiter: Limiter, bound: Binding, wants: Demand, user: str = "") -> LimitExceeded:
    with pytest.raises(LimitExceeded) as caught:
        await limiter.reserve(bound, wants, user)
    return caught.value


def test_settling_puts_the_truth_in_place_of_the_estimate_once() -> None:
    bound = _bound(limit("tokens", 100))

    async def play(limiter: Limiter) -> None:
        held = await limiter.reserve(bound, demand(60))
        assert _left(limiter) == 40
        held.settle(use(10))
        held.settle(use(50))
        assert _left(limiter) == 90
        aborted = await limiter.reserve(bound, demand(60))
        aborted.settle()
        assert _left(limiter) == 90

    _with_limiter(bound, play)


def test_a_request_counts_whatever_becomes_of_it_but_not_when_it_is_refused() -> None:
    bound = _bound(limit("requests", 3), limit("tokens", 100, name="t"))

    async def play(limiter: Limiter) -> None:
        (await limiter.reserve(bound, demand(1))).settle()
        assert _left(limiter) == 2
        await _refused(limiter, bound, demand(500))
        assert _left(limiter) == 2
        assert _left(limiter, "t") == 100

    _with_limiter(bound, play)


def test_attempts_add_up_and_a_cost_that_nobody_knows_is_settled_as_reserved() -> None:
    bound = _bound(limit("usd", "0.001000"))

    async def play(limiter: Limiter) -> None:
        (await limiter.reserve(bound, demand(500))).settle(use(100), use(50))
        assert _left(limiter) == 850 * 10**6
        (await limiter.reserve(bound, demand(500))).settle(Use(UsageCounts(output_tokens=3), None))
        assert _left(limiter) == 350 * 10**6

    _with_limiter(bound, play)


def test_a_model_at_its_limit_is_ruled_out_and_the_request_goes_on_with_the_others() -> None:
    bound = _bound(limit("tokens", 100, scope="model", subjects=("a",)), models=("a", "b"))

    async def play(limiter: Limiter) -> None:
        held = await limiter.reserve(bound, demand(100))
        assert held.excluded == frozenset()
        held.settle(Use(UsageCounts(output_tokens=100), Decimal(0), "a"))
        held = await limiter.reserve(bound, demand(10))
        assert held.excluded == {"engine/a"}
        held.settle(Use(UsageCounts(output_tokens=10), Decimal(0), "b"))
        assert _left(limiter) == 0

    _with_limiter(bound, play)


def test_what_another_model_used_does_not_count() -> None:
    bound = _bound(limit("requests", 5, scope="model"), models=("a", "b"))

    async def play(limiter: Limiter) -> None:
        held = await limiter.reserve(bound, demand(1))
        held.settle(Use(UsageCounts(output_tokens=1), Decimal(0), "b"))
        assert {key[1]: part.left for key, part in limiter.shares.current.items()} == {"a": 5, "b": 4}

    _with_limiter(bound, play)


def test_when_every_model_is_at_its_limit_the_request_is_refused() -> None:
    bound = _bound(limit("requests", 0, scope="model"), models=("a", "b"))

    async def play(limiter: Limiter) -> None:
        assert "model 'a'" in (await _refused(limiter, bound, demand(1))).message

    _with_limiter(bound, play)


def test_users_have_counters_of_their_own() -> None:
    bound = _bound(limit("requests", 1, scope="user"))

    async def play(limiter: Limiter) -> None:
        await limiter.reserve(bound, demand(1), "ann")
        await limiter.reserve(bound, demand(1), "bob")
        assert "user 'p/ann'" in (await _refused(limiter, bound, demand(1), "ann")).message

    _with_limiter(bound, play)


def test_a_refusal_names_the_limit_what_is_left_and_when_it_resets() -> None:
    bound = _bound(limit("tokens", 100), limit("requests", 10, name="rpm", window="minute"))

    async def play(limiter: Limiter) -> None:
        (await limiter.reserve(bound, demand(70))).settle(use(70))
        error = await _refused(limiter, bound, demand(40))
        assert error.status == 429
        assert error.message == (
            "the limit 'l' of project 'p' is 100 tokens per day, 30 are left and this request reserves 40: it resets in 12h0m0s"
        )
        assert error.retry_after_s == 12 * 3600
        assert dict(error.headers) == {
            b"ratelimit-policy": b'"l";q=100;w=86400;qu="tokens", "rpm";q=10;w=60;qu="requests"',
            b"ratelimit": b'"l";r=30;t=43200, "rpm";r=9;t=60',
            b"x-ratelimit-limit-tokens": b"100", b"x-ratelimit-remaining-tokens": b"30", b"x-ratelimit-reset-tokens": b"12h0m0s",
            b"x-ratelimit-limit-requests": b"10", b"x-ratelimit-remaining-requests": b"9", b"x-ratelimit-reset-requests": b"1m0s",
        }  # fmt: skip

    _with_limiter(bound, play)


def test_budgets_are_402_and_tell_dollars_to_the_refused_only() -> None:
    bound = _bound(limit("usd", "0.5", window="total"))

    async def play(limiter: Limiter) -> None:
        held = await limiter.reserve(bound, demand(400_000))
        assert held.headers() == []
        error = await _refused(limiter, bound, demand(200_000))
        assert isinstance(error, BudgetExhausted)
        assert error.status == 402
        assert error.retry_after_s is None
        assert error.message == (
            "the budget 'l' of project 'p' is 0.5 dollars, 0.1 are left and this request reserves 0.2:"
            " it never resets, ask for a higher one"
        )

    _with_limiter(bound, play)


def test_a_request_larger_than_the_whole_limit_is_told_so() -> None:
    bound = _bound(limit("tokens", 100))

    async def play(limiter: Limiter) -> None:
        error = await _refused(limiter, bound, demand(101))
        assert error.retry_after_s is None
        assert "this request alone reserves 101" in error.message

    _with_limiter(bound, play)


def test_a_used_up_limit_is_refused_without_a_word_to_the_ledger() -> None:
    bound = _bound(limit("requests", 2, window="hour"))

    async def play(limiter: Limiter) -> None:
        await limiter.reserve(bound, demand(1))
        await limiter.reserve(bound, demand(1))
        began = asyncio.get_running_loop().time()
        for _ in range(100):
            await _refused(limiter, bound, demand(1))
        assert asyncio.get_running_loop().time() == began

    _with_limiter(bound, play)


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "200ms"), (12, "12s"), (360, "6m0s"), (3605, "1h0m5s")])
def testdurations_are_written_as_openai_writes_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


async def test_nothing_blocks_the_loop(tmp_path: Path, no_blocking: BlockBuster) -> None:
    del no_blocking
    bound = _bound(limit("tokens", 100_000), limit("concurrency", 5, name="c"))
    ledger = await asyncio.to_thread(lambda: Ledger(Journal(tmp_path / "journal.jsonl")))
    running = asyncio.create_task(ledger.run())
    limiter = Limiter(ledger, "gw")
    limiter.start()
    for _ in range(20):
        (limiter.try_reserve(bound, demand(10)) or await limiter.reserve(bound, demand(10))).settle(use(5))
    await limiter.stop()
    running.cancel()
    ledger.close()
    assert await asyncio.to_thread(lambda: Journal(tmp_path / "journal.jsonl").load())


def test_a_torn_line_in_the_journal_is_passed_over_and_the_last_row_wins(tmp_path: Path) -> None:
    def row(lease: int) -> Row:
        return Row(CounterId("l", "s", 0), 1e13, False, 100, 1, "gw", 1, lease, 10**25)

    path = tmp_path / "limits" / "journal.jsonl"
    journal = Journal(path)
    assert journal.load() == []
    journal.append([row(5), row(7)])
    journal.close()
    path.write_bytes(path.read_bytes() + b'[{"limit":"l","subj')
    journal = Journal(path)
    assert journal.load() == [row(7)]
    journal.append([row(9)])
    journal.rewrite([row(9)])
    journal.append([row(11)])
    journal.close()
    journal = Journal(path)
    assert journal.load() == [row(11)]
    assert len(path.read_bytes().splitlines()) == 3
    journal.close()
