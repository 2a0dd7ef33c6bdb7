"""Hedges and shadows: requests that run beside the one that answers."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from tests.foundry.gateway.routing.conftest import Make, Routed, route, target
from tests.foundry.gateway.routing.test_dispatch import COST, until
from tests.support.scripted_upstream import OUTPUT_TOKENS


async def _hedged(routed: Make, **hedge: Any) -> Routed:
    routing = {"hedge": {"after_ms": 20, **hedge}, "retries": {"base_ms": 1}}
    return await routed(
        lambda urls: [route("r", target("a", urls[0]), target("b", urls[1]), routing=routing)]
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_target_answers_when_the_first_is_slow_to_begin(routed: Make, stream: bool) -> None:
    made = await _hedged(routed)
    made.upstreams[0].script = ["gated"]
    answer = await made.chat(stream=stream)
    assert (answer.status_code, answer.headers["x-foundry-target"]) == (200, "engine/b")
    assert answer.headers["x-foundry-attempts"] == "2"
    await asyncio.wait_for(made.upstreams[0].cut.wait(), 10)
    [record] = made.rig.records()
    loser, winner = json.loads(record["attempts"])
    assert (loser["target_id"], loser["outcome"], loser["usage_source"]) == (
        "engine/a",
        "aborted",
        "estimated",
    )
    assert loser["input_tokens"] > 0
    assert loser.get("output_tokens", 0) == 0
    assert (winner["target_id"], winner["hedged"], winner["outcome"]) == ("engine/b", True, "completed")
    assert Decimal(record["cost_usd"]) == COST + loser["input_tokens"] * Decimal("0.000001")
    assert {state.in_flight for state in made.gateway.routing.board.targets.values()} == {0}


async def test_one_that_begins_in_time_is_not_hedged(routed: Make) -> None:
    made = await _hedged(routed, after_ms=5000)
    assert (await made.chat()).status_code == 200
    assert made.asked() == [1, 0]


async def test_the_first_may_still_win(routed: Make) -> None:
    made = await _hedged(routed)
    made.upstreams[0].script, made.upstreams[1].script = ["gated"], ["gated"]
    waiting = asyncio.create_task(made.chat())
    await until(lambda: made.asked() == [1, 1])
    made.upstreams[0].gate.set()
    answer = await waiting
    assert answer.headers["x-foundry-target"] == "engine/a"
    assert made.rig.records()[0]["target_id"] == "engine/a"


async def test_a_hedge_that_fails_leaves_the_first_alone_and_both_failing_is_one_failure(
    routed: Make,
) -> None:
    made = await _hedged(routed, max_share=1)
    made.upstreams[0].script, made.upstreams[1].script = ["gated"], ["status-400"]
    waiting = asyncio.create_task(made.chat())
    await until(lambda: made.asked() == [1, 1])
    made.upstreams[0].gate.set()
    answer = await waiting
    assert (answer.status_code, answer.headers["x-foundry-target"]) == (200, "engine/a")


async def test_hedges_are_a_bounded_share(routed: Make) -> None:
    made = await _hedged(routed, max_share=0.01)
    made.upstreams[0].script = ["gated", "gated"]
    await made.chat()
    second = asyncio.create_task(made.chat())
    await until(lambda: made.asked() == [2, 1])
    made.upstreams[0].gate.set()
    assert (await second).headers["x-foundry-target"] == "engine/a"
    assert made.asked() == [2, 1], "one in ten seconds was the share"


async def test_a_caller_that_leaves_ends_both(routed: Make) -> None:
    made = await _hedged(routed)
    made.upstreams[0].script, made.upstreams[1].script = ["slow"], ["slow"]
    waiting = asyncio.create_task(made.chat())
    await until(lambda: made.asked() == [1, 1])
    waiting.cancel()
    for upstream in made.upstreams:
        await asyncio.wait_for(upstream.cut.wait(), 10)
    await until(lambda: {state.in_flight for state in made.gateway.routing.board.targets.values()} == {0})
    assert made.rig.records()[0]["outcome"] == "aborted"


async def _shadowed(routed: Make, model: str = "ok", percent: float = 100) -> Routed:
    return await routed(
        lambda urls: [
            route("r", target("a", urls[0]), target("s", urls[1], model=model, shadow_percent=percent))
        ]
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_shadow_gets_a_copy_and_a_record_of_its_own(routed: Make, stream: bool) -> None:
    made = await _shadowed(routed)
    answer = await made.chat(stream=stream)
    assert answer.headers["x-foundry-target"] == "engine/a"
    assert answer.headers["x-foundry-attempts"] == "1"
    await until(lambda: len(made.rig.records()) == 2)
    told, copy = sorted(made.rig.records(), key=lambda record: record.get("shadow", False))
    assert (told["target_id"], told.get("shadow", False)) == ("engine/a", False)
    assert (copy["target_id"], copy["shadow"], copy["outcome"]) == ("engine/s", True, "completed")
    assert copy["output_tokens"] == OUTPUT_TOKENS
    assert Decimal(copy["cost_usd"]) == COST
    assert (copy["request_id"], copy["route"], copy["key_id"]) == (told["request_id"], "r", told["key_id"])
    assert copy["id"] != told["id"]


async def test_a_shadow_never_delays_or_fails_the_caller_and_is_cut_off_on_shutdown(routed: Make) -> None:
    made = await _shadowed(routed, model="slow")
    assert (await made.chat()).status_code == 200
    await until(lambda: made.asked() == [1, 1])
    await made.gateway.routing.aclose()
    assert [record["outcome"] for record in made.rig.records()] == ["completed", "aborted"]


async def test_a_shadow_that_fails_says_so_in_its_record(routed: Make) -> None:
    made = await _shadowed(routed, model="status-500")
    assert (await made.chat()).status_code == 200
    await until(lambda: len(made.rig.records()) == 2)
    copy = next(record for record in made.rig.records() if record.get("shadow"))
    assert (copy["outcome"], copy["error_code"], copy["cost_usd"]) == ("failed", "upstream_refused", "0")


async def test_a_shadow_gets_its_percent_and_never_serves(routed: Make) -> None:
    made = await _shadowed(routed, percent=30)
    for _ in range(60):
        await made.chat()
    assert made.asked()[0] == 60
    assert 9 <= made.asked()[1] <= 28
    made.upstreams[0].script = ["status-400"]
    assert (await made.chat()).status_code == 400
