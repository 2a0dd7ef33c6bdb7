"""The contract of every policy in the registry, and what each of them is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any, get_args

import pytest

from foundry.gateway.routing.facts import Facts
from foundry.gateway.routing.policies import POLICIES
from foundry.gateway.routing.targets import Candidate
from foundry.types.money import Price
from foundry.types.routing import Policy
from tests.foundry.gateway.routing.conftest import call, candidate


def _names(ordered: Sequence[Candidate]) -> list[str]:
    return [one.state.target_id.removeprefix("engine/") for one in ordered]


def _facts(text: str = "hello", **more: Any) -> Facts:
    return Facts(call(messages=[{"role": "user", "content": text}], **more))


def test_every_policy_of_the_contract_is_registered() -> None:
    assert set(POLICIES) == set(get_args(Policy))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("count", [2, 3, 7])
def test_it_orders_every_target_once_and_the_same_way_for_the_same_draw(policy: Policy, count: int) -> None:
    candidates = [candidate(f"t{n}", weight=float(n)) for n in range(count)]
    candidates[1].state.in_flight = 3
    candidates[1].state.ttft_ms = 40.0
    first = POLICIES[policy](candidates, _facts(), Random(7))
    second = POLICIES[policy](candidates, _facts(), Random(7))
    assert first == second
    assert sorted(_names(first)) == sorted(_names(candidates))


@pytest.mark.parametrize("policy", POLICIES)
def test_it_survives_targets_without_weight_price_or_measurement(policy: Policy) -> None:
    candidates = [candidate(f"t{n}", weight=0.0, price=None) for n in range(3)]
    assert len(POLICIES[policy](candidates, Facts(call()), Random(7))) == 3


def test_priority_is_the_routes_order() -> None:
    assert _names(POLICIES["priority"]([candidate("b"), candidate("a")], _facts(), Random(7))) == ["b", "a"]


def test_weighted_shares_first_places_by_weight_and_keeps_weight_0_last() -> None:
    candidates = [candidate("a", weight=3), candidate("b", weight=1), candidate("c", weight=0)]
    random = Random(7)
    orders = [_names(POLICIES["weighted"](candidates, _facts(), random)) for _ in range(4000)]
    firsts = Counter(order[0] for order in orders)
    assert 0.72 < firsts["a"] / 4000 < 0.78
    assert all(order[-1] == "c" for order in orders)


def test_least_loaded_counts_in_flight_and_waiting_per_weight() -> None:
    a, b, c = candidate("a", weight=1), candidate("b", weight=4), candidate("c", weight=1)
    a.state.in_flight, b.state.in_flight, c.state.waiting = 2, 4, 3
    assert _names(POLICIES["least_loaded"]([a, b, c], _facts(), Random(7))) == ["b", "a", "c"]


def test_least_loaded_shares_among_equals() -> None:
    candidates, random = [candidate("a"), candidate("b")], Random(7)
    firsts = Counter(_names(POLICIES["least_loaded"](candidates, _facts(), random))[0] for _ in range(1000))
    assert 400 < firsts["a"] < 600


def test_lowest_ttft_prefers_the_fastest_measures_idle_ones_and_explores() -> None:
    slow, fast, new = candidate("slow"), candidate("fast"), candidate("new")
    slow.state.ttft_ms, fast.state.ttft_ms = 300.0, 80.0
    random = Random(7)
    assert _names(POLICIES["lowest_ttft"]([slow, fast, new], _facts(), Random(7))) == ["new", "fast", "slow"]
    new.state.in_flight = 1  # it is being measured
    firsts = Counter(
        _names(POLICIES["lowest_ttft"]([slow, fast, new], _facts(), random))[0] for _ in range(3000)
    )
    assert 0.97 < firsts["fast"] / 3000 < 0.99
    assert set(firsts) == {"fast", "slow", "new"}


def test_cheapest_weighs_both_rates_by_this_requests_size() -> None:
    def price(input_rate: str, output_rate: str) -> Price:
        return Price(
            price_id="p",
            source="test",
            input_per_mtok_usd=Decimal(input_rate),
            output_per_mtok_usd=Decimal(output_rate),
        )

    reader = candidate("cheap-input", price=price("1", "10"))
    writer = candidate("cheap-output", price=price("4", "4"))
    unknown = candidate("unknown", price=None)
    order = POLICIES["cheapest"]
    long_input = Facts(call(messages="x" * 40_000))
    assert _names(order([unknown, reader, writer], long_input, Random(7))) == [
        "cheap-input",
        "cheap-output",
        "unknown",
    ]
    short = Facts(call(messages="x"))
    assert _names(order([unknown, reader, writer], short, Random(7)))[0] == "cheap-output"


def test_prefix_keeps_a_conversation_on_its_target_and_spreads_conversations() -> None:
    candidates = [candidate(f"t{n}") for n in range(4)]
    order = POLICIES["prefix"]

    def first(text: str, *turns: dict[str, str]) -> str:
        messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}, *turns]
        return _names(order(candidates, Facts(call(messages=messages)), Random(7)))[0]

    for n in range(20):
        later = ({"role": "assistant", "content": "yes"}, {"role": "user", "content": "and then?"})
        assert first(f"q{n}") == first(f"q{n}", *later)
    firsts = Counter(first(f"question {n}") for n in range(2000))
    assert all(380 < count < 620 for count in firsts.values())
    assert len(firsts) == 4


def test_prefix_moves_only_the_share_of_a_target_that_leaves() -> None:
    candidates = [candidate(f"t{n}") for n in range(5)]
    order = POLICIES["prefix"]
    for n in range(300):
        facts = _facts(f"q{n}")
        before = _names(order(candidates, facts, Random(7)))
        after = _names(order(candidates[1:], facts, Random(7)))
        assert after == [name for name in before if name != "t0"]


def test_prefix_gives_way_when_a_target_is_overloaded() -> None:
    candidates = [candidate(f"t{n}") for n in range(3)]
    order, facts = POLICIES["prefix"], _facts()
    home = order(candidates, facts, Random(7))[0]
    home.state.in_flight = 4
    assert order(candidates, facts, Random(7))[0] is home, "a few are never too many"
    home.state.in_flight = 40
    assert order(candidates, facts, Random(7))[0] is not home
    assert order(candidates, facts, Random(7))[-1] is home


def test_prefix_goes_by_the_callers_own_key_and_by_prompts_and_bodies() -> None:
    same = [
        Facts(call(messages=[{"role": "user", "content": f"{n}"}], prompt_cache_key="k")) for n in range(2)
    ]
    assert same[0].prefix64 == same[1].prefix64
    assert Facts(call(prompt="a")).prefix64 != Facts(call(prompt="b")).prefix64
    assert Facts(call(messages="not a list")).prefix64 != Facts(call(messages="other")).prefix64
