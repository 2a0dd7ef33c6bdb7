"""Which target answers, over real sockets: failover, retries, fallbacks, caps, breakers; and what the caller and the record are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from foundry.types.deployment import DeploymentPhase
from tests.foundry.gateway.routing.conftest import Clock, Make, Routed, route, target, vendor
from tests.support.scripted_upstream import OUTPUT_TOKENS, PROMPT_TOKENS

COST = PROMPT_TOKENS * Decimal("0.000001") + OUTPUT_TOKENS * Decimal("0.000002")
FAST: dict[str, Any] = {"retries": {"base_ms": 1, "max_ms": 2}}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def _two(**routing: Any) -> Callable[[list[str]], list[Any]]:
    return lambda urls: [route("r", target("a", urls[0]), target("b", urls[1]), routing={**FAST, **routing})]


def _by_hand(made: Routed, clock: Clock) -> None:
    """From now on the replica's time is the test's."""
    made.gateway.routing.board.clock = clock


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("trouble", ["die-before", "status-503", "status-500", "status-401", "status-429"])
async def test_the_next_target_answers_and_the_caller_sees_one_clean_answer(
    routed: Make, trouble: str, stream: bool
) -> None:
    made = await routed(_two())
    made.upstreams[0].script = [trouble]
    answer = await made.chat(stream=stream)
    assert answer.status_code == 200
    assert made.asked() == [1, 1]
    assert answer.headers["x-foundry-target"] == "engine/b"
    assert answer.headers["x-foundry-attempts"] == "2"
    assert answer.headers["x-foundry-policy"] == "priority"
    assert "x-foundry-fallback" not in answer.headers
    assert "x-foundry-queue-ms" not in answer.headers
    [record] = made.rig.records()
    assert (record["outcome"], record["target_id"], record["policy"]) == ("completed", "engine/b", "priority")
    assert Decimal(record["cost_usd"]) == COST
    failed, answered = json.loads(record["attempts"])
    status = 0 if trouble == "die-before" else int(trouble.removeprefix("status-"))
    assert (failed["target_id"], failed["outcome"], failed.get("status", 0)) == ("engine/a", "failed", status)
    assert failed["error_code"] == ("upstream_refused" if status else "upstream_unreachable")
    assert (answered["target_id"], answered["outcome"], answered["status"]) == ("engine/b", "completed", 200)
    assert Decimal(answered["cost_usd"]) == COST
    assert {state.in_flight for state in made.gateway.routing.board.targets.values()} == {0}


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_the_callers_fault_is_told_at_once(routed: Make, status: int) -> None:
    made = await routed(_two(health={"min_requests": 1}))
    made.upstreams[0].script = [f"status-{status}"]
    answer = await made.chat()
    assert (answer.status_code, made.asked()) == (status, [1, 0])
    assert (await made.chat()).status_code == 200
    assert made.asked() == [2, 0], "it does not count against the target"


async def test_a_lone_target_is_tried_again(routed: Make) -> None:
    made = await routed(lambda urls: [route("r", target("a", urls[0]), routing=FAST)], upstreams=1)
    made.upstreams[0].retry_after = ""
    made.upstreams[0].script = ["status-503", "die-before"]
    answer = await made.chat(stream=True)
    assert (answer.status_code, made.asked(), answer.headers["x-foundry-attempts"]) == (200, [3], "3")


async def test_the_number_of_tries_is_bounded_and_the_last_words_are_told(routed: Make) -> None:
    made = await routed(_two(retries={"attempts": 1}))
    for upstream in made.upstreams:
        upstream.script = ["status-500"] * 5
    answer = await made.chat()
    assert (answer.status_code, made.asked()) == (502, [1, 1])
    assert "engine/b answered 500" in answer.json()["error"]["message"]
    [record] = made.rig.records()
    assert (record["outcome"], record["cost_usd"]) == ("failed", "0")


async def test_second_tries_have_a_budget_but_other_targets_do_not(routed: Make) -> None:
    def routes(urls: list[str]) -> list[Any]:
        never_opens = {**FAST, "health": {"min_requests": 1000}}
        one = {**never_opens, "retries": {"attempts": 1, "base_ms": 0, "budget_ratio": 0}}
        return [
            route("lone", target("a", urls[0], model="status-500"), routing=one),
            route("two", target("a", urls[0], model="status-500"), target("b", urls[1]), routing=one),
        ]

    made = await routed(routes)
    made.upstreams[0].retry_after = ""
    for _ in range(5):
        assert (await made.chat("lone")).status_code == 502
    assert made.asked() == [5 + 3, 0], "three second tries in ten seconds, whatever the ratio"
    for _ in range(5):
        assert (await made.chat("two")).status_code == 200


async def test_a_short_retry_after_is_waited_for_and_a_long_one_is_told(routed: Make) -> None:
    made = await routed(
        lambda urls: [route("r", target("a", urls[0]), routing={"retries": {"max_ms": 50}})], upstreams=1
    )
    made.upstreams[0].retry_after, made.upstreams[0].script = "0", ["status-429"]
    assert (await made.chat()).status_code == 200
    made.upstreams[0].retry_after, made.upstreams[0].script = "7", ["status-429"]
    answer = await made.chat()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


async def test_a_rate_limited_target_rests_for_as_long_as_it_said(routed: Make, clock: Clock) -> None:
    made = await routed(_two(health={"min_requests": 1}))
    _by_hand(made, clock)
    made.upstreams[0].script = ["status-429"]
    await made.chat()
    await made.chat()
    assert made.asked() == [1, 2]
    state = made.gateway.routing.board.targets["engine/a"]
    assert state.cool_until == clock() + 7
    assert all(breaker.state == "closed" for breaker in state.breakers.values())
    clock.now += 7
    await made.chat()
    assert made.asked() == [2, 2]


async def test_a_breaker_opens_and_closes_again_after_a_trial(routed: Make, clock: Clock) -> None:
    made = await routed(_two(health={"min_requests": 2, "open_s": 10}))
    _by_hand(made, clock)
    made.upstreams[0].script = ["status-500", "status-500"]
    for _ in range(4):
        assert (await made.chat()).status_code == 200
    assert made.asked() == [2, 4], "out after two"
    clock.now += 10
    await made.chat()
    await made.chat()
    assert made.asked() == [4, 4], "a trial, and it is back"


async def test_when_all_are_out_the_answer_is_503_and_says_when(routed: Make, clock: Clock) -> None:
    made = await routed(
        lambda urls: [
            route("r", target("a", urls[0]), routing={**FAST, "health": {"min_requests": 1, "open_s": 42}})
        ],
        upstreams=1,
    )
    _by_hand(made, clock)
    made.upstreams[0].script = ["status-500"]
    await made.chat()
    clock.now += 2
    answer = await made.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_target_available")
    assert answer.headers["retry-after"] == "40"
    assert made.asked() == [1]
    assert made.rig.records()[-1]["outcome"] == "rejected"


async def test_state_survives_a_new_snapshot_and_goes_with_the_target(routed: Make) -> None:
    made = await routed(_two(health={"min_requests": 1}))
    made.upstreams[0].script = ["status-500"]
    await made.chat()
    urls = [upstream.url for upstream in made.upstreams]
    made.publish(*_two(health={"min_requests": 1})(urls))
    await made.chat()
    assert made.asked() == [1, 2], "a new snapshot does not close a breaker"
    made.publish(route("r", target("b", urls[1])))
    await made.chat()
    assert set(made.gateway.routing.board.targets) == {"engine/b"}


async def test_fallback_routes_are_asked_in_order_even_if_the_key_cannot_see_them(routed: Make) -> None:
    def routes(urls: list[str]) -> list[Any]:
        dead = target("dead", urls[0], model="status-500")
        first = route(
            "r", dead, routing={**FAST, "retries": {"attempts": 0}, "fallbacks": ["gone", "r", "x", "y"]}
        )
        second = route("x", dead, routing={**FAST, "retries": {"attempts": 0}, "fallbacks": ["r"]})
        hidden = route("y", vendor("v", urls[1])).model_copy(update={"project_ids": ("another",)})
        return [first, second, hidden]

    made = await routed(routes)
    answer = await made.chat("r")
    assert answer.status_code == 200
    assert answer.headers["x-foundry-fallback"] == "y"
    assert answer.headers["x-foundry-target"] == "openai/v"
    assert made.asked() == [2, 1]
    [record] = made.rig.records()
    assert (record["route"], record["target_id"]) == ("r", "openai/v")
    assert [attempt.get("route", "") for attempt in json.loads(record["attempts"])] == ["", "x", "y"]
    assert (await made.chat("y")).status_code == 404, "only the operator's choice lets it through"


async def test_when_every_route_fails_the_first_ones_words_are_told(routed: Make) -> None:
    def routes(urls: list[str]) -> list[Any]:
        none = {"retries": {"attempts": 0}}
        return [
            route("r", target("a", urls[0], model="status-500"), routing={**none, "fallbacks": ["x"]}),
            route("x", target("b", urls[1], model="status-503"), routing=none),
        ]

    made = await routed(routes)
    answer = await made.chat("r")
    assert answer.status_code == 502
    assert "engine/a answered 500" in answer.json()["error"]["message"]


async def test_targets_that_are_not_ready_or_have_no_secret_are_passed_over(
    routed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)

    def routes(urls: list[str]) -> list[Any]:
        loading = target("l", urls[0], phase=DeploymentPhase.LOADING)
        secretless = vendor("s", urls[0]).model_copy(update={"provider": "groq"})
        return [route("r", loading, secretless, target("b", urls[1])), route("s", secretless)]

    made = await routed(routes)
    answer = await made.chat()
    assert (answer.status_code, made.asked(), answer.headers["x-foundry-attempts"]) == (200, [0, 1], "1")
    assert "GROQ_API_KEY" in (await made.chat("s")).json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_first_byte_that_does_not_come_in_time_goes_elsewhere(routed: Make, stream: bool) -> None:
    made = await routed(_two(timeouts={"first_byte_s": 0.05}))
    made.upstreams[0].script = ["slow"]
    answer = await made.chat(stream=stream)
    assert (answer.status_code, answer.headers["x-foundry-target"]) == (200, "engine/b")
    attempts = json.loads(made.rig.records()[0]["attempts"])
    assert attempts[0]["error_code"] == "upstream_timeout"


async def test_the_total_bounds_all_tries_together(routed: Make) -> None:
    made = await routed(_two(timeouts={"total_s": 0.1, "first_byte_s": 60}))
    for upstream in made.upstreams:
        upstream.script = ["slow", "slow"]
    answer = await made.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert made.asked() == [1, 0]
    assert made.gateway.routing.board.targets["engine/a"].in_flight == 0


async def test_a_stream_that_stalls_ends_with_an_error_event(routed: Make) -> None:
    made = await routed(_two(timeouts={"between_chunks_s": 0.1, "first_byte_s": 60}))
    made.upstreams[0].script = ["stall"]
    answer = await made.chat(stream=True)
    assert "w1 " in answer.text
    assert '"code":"upstream_timeout"' in answer.text
    assert "[DONE]" not in answer.text
    [record] = made.rig.records()
    assert (record["outcome"], record["output_tokens"]) == ("failed", 2)


async def test_a_stream_longer_than_the_total_ends_with_an_error_event(routed: Make) -> None:
    made = await routed(_two(timeouts={"total_s": 0.2}))
    made.upstreams[0].script = ["endless"]
    answer = await made.chat(stream=True)
    assert "w1 " in answer.text
    assert "longer than the route allows" in answer.text
    await asyncio.wait_for(made.upstreams[0].cut.wait(), 10)
    assert made.rig.records()[0]["outcome"] == "failed"


async def test_weighted_targets_share_and_a_canary_gets_its_percent_and_no_more(routed: Make) -> None:
    def routes(urls: list[str]) -> list[Any]:
        canary = target("c", urls[2], canary_percent=20)
        return [
            route(
                "r",
                target("a", urls[0]),
                target("b", urls[1]),
                canary,
                routing={**FAST, "policy": "weighted"},
            )
        ]

    made = await routed(routes, upstreams=3)
    for _ in range(100):
        assert (await made.chat()).headers["x-foundry-policy"] == "weighted"
    a, b, canary = made.asked()
    assert a + b + canary == 100
    assert 30 <= a <= 50
    assert 12 <= canary <= 28


async def test_a_canary_that_fails_is_covered_by_the_primaries(routed: Make) -> None:
    def routes(urls: list[str]) -> list[Any]:
        canary = target("c", urls[1], model="status-500", canary_percent=100)
        return [route("r", target("a", urls[0]), canary, routing=FAST)]

    made = await routed(routes)
    answer = await made.chat()
    assert (answer.status_code, made.asked()) == (200, [1, 1])


async def test_a_probe_finds_a_target_alive_and_lets_a_trial_through(routed: Make) -> None:
    health = {"min_requests": 1, "open_s": 1000, "probe_interval_s": 0.02}
    made = await routed(_two(health=health))
    made.upstreams[0].alive = False
    made.upstreams[0].script = ["status-500"]
    await made.chat()
    await until(lambda: made.upstreams[0].probes >= 2)
    await made.chat()
    assert made.asked() == [1, 2], "dead to probes, and out"
    made.upstreams[0].alive = True
    [breaker] = made.gateway.routing.board.targets["engine/a"].breakers.values()
    await until(lambda: breaker.state == "half_open")
    await made.chat()
    assert made.asked() == [2, 2]
    assert breaker.state == "closed"
    assert made.upstreams[1].probes == 0
    assert not made.gateway.routing.prober.watched


async def test_the_request_path_never_blocks_the_loop(routed: Make, request: pytest.FixtureRequest) -> None:
    made = await routed(_two(policy="prefix"))
    for upstream in made.upstreams:
        upstream.script, upstream.retry_after = ["status-500"], ""
    request.getfixturevalue("no_blocking")  # only from here on: making a gateway reads files
    assert (await made.chat(stream=True)).status_code == 200
