"""A stream that breaks off after its first byte: an error event, or another target goes on; billed for both either way."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from foundry.types.cache import CachePolicy
from tests.foundry.gateway.routing.conftest import Make, Routed, route, target, vendor
from tests.support.scripted_upstream import PROMPT_TOKENS

CONTINUE: dict[str, Any] = {"midstream": "continue", "retries": {"base_ms": 1, "max_ms": 2}}


def _cost(input_tokens: int, output_tokens: int) -> Decimal:
    return input_tokens * Decimal("0.000001") + output_tokens * Decimal("0.000002")


async def _two(routed: Make, **routing: Any) -> Routed:
    return await routed(
        lambda urls: [route("r", target("a", urls[0]), target("b", urls[1]), routing={**CONTINUE, **routing})]
    )


def _events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def _words(text: str) -> str:
    return "".join(
        choice["delta"].get("content") or "" for event in _events(text) for choice in event.get("choices", [])
    )


@pytest.mark.parametrize("trouble", ["die-mid", "error-mid"])
async def test_the_next_target_goes_on_and_the_caller_sees_one_stream(routed: Make, trouble: str) -> None:
    made = await _two(routed)
    made.upstreams[0].script = [trouble]
    client = openai.AsyncOpenAI(base_url=made.rig.url + "/v1", api_key=made.rig.keys["good"], max_retries=0)
    stream = await client.chat.completions.create(
        model="r",
        messages=[{"role": "user", "content": "x"}],
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=10,
    )
    chunks = [chunk async for chunk in stream]
    await client.close()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "w1 w2 w3 "
    assert len({chunk.id for chunk in chunks}) == 1
    assert sum(chunk.choices[0].delta.role is not None for chunk in chunks if chunk.choices) == 1
    [usage] = [chunk.usage for chunk in chunks if chunk.usage]
    assert (usage.prompt_tokens, usage.completion_tokens) == (2 * PROMPT_TOKENS, 3)
    _, sent = made.upstreams[1].requests[0]
    assert sent["messages"][-1] == {"role": "assistant", "content": "w1 w2"}
    assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)
    assert sent["max_tokens"] == 8
    [record] = made.rig.records()
    assert (record["outcome"], record["target_id"], record["output_tokens"]) == ("completed", "engine/b", 3)
    assert record["usage_source"] == "partial", "the first attempt's count was a running one"
    assert Decimal(record["cost_usd"]) == _cost(2 * PROMPT_TOKENS, 3)
    first, second = json.loads(record["attempts"])
    assert (first["outcome"], first["output_tokens"], first["error_code"]) == ("failed", 2, "upstream_broke")
    assert (second["outcome"], second["output_tokens"]) == ("completed", 1)
    assert {state.in_flight for state in made.gateway.routing.board.targets.values()} == {0}


async def test_by_default_a_broken_stream_ends_with_an_error(routed: Make) -> None:
    made = await _two(routed, midstream="fail")
    made.upstreams[0].script = ["die-mid"]
    answer = await made.chat(stream=True)
    assert _words(answer.text) == "w1 w2 "
    assert "upstream_broke" in answer.text
    assert made.asked() == [1, 0]
    [record] = made.rig.records()
    assert (record["outcome"], Decimal(record["cost_usd"])) == ("failed", _cost(PROMPT_TOKENS, 2))


async def test_it_can_go_on_at_the_same_target(routed: Make) -> None:
    made = await routed(lambda urls: [route("r", target("a", urls[0]), routing=CONTINUE)], upstreams=1)
    made.upstreams[0].script = ["die-mid"]
    assert _words((await made.chat(stream=True)).text) == "w1 w2 w3 "


async def test_a_break_behind_the_finish_reason_loses_nothing(routed: Make) -> None:
    made = await _two(routed)
    made.upstreams[0].script = ["die-at-last"]
    answer = await made.chat(stream=True)
    assert _words(answer.text) == "w1 w2 w3 "
    assert answer.text.endswith("data: [DONE]\n\n")
    assert made.asked() == [1, 0]
    [record] = made.rig.records()
    assert (record["outcome"], record["output_tokens"]) == ("completed", 3)


async def test_when_the_rest_fails_too_the_first_error_is_told_and_all_is_billed(routed: Make) -> None:
    made = await _two(routed, retries={"attempts": 1})
    made.upstreams[0].script = ["die-mid"]
    made.upstreams[1].script = ["die-before"]
    answer = await made.chat(stream=True)
    assert _words(answer.text) == "w1 w2 "
    assert "half-way" in answer.text or "died while it answered" in answer.text
    [record] = made.rig.records()
    assert (record["outcome"], Decimal(record["cost_usd"])) == ("failed", _cost(PROMPT_TOKENS, 2))
    assert len(json.loads(record["attempts"])) == 2


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"tool_choice": "required"},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "mine"}]},
    ],
)
async def test_what_cannot_be_cut_in_two_ends_with_an_error(routed: Make, more: dict[str, Any]) -> None:
    made = await _two(routed)
    made.upstreams[0].script = ["die-mid"]
    answer = await made.chat(stream=True, **more)
    assert "upstream_broke" in answer.text
    assert made.asked() == [1, 0]


async def test_a_vendor_that_cannot_go_on_is_passed_over(routed: Make) -> None:
    made = await routed(
        lambda urls: [
            route("r", target("a", urls[0]), vendor("v", urls[1]), target("c", urls[2]), routing=CONTINUE)
        ],
        upstreams=3,
    )
    made.upstreams[0].script = ["die-mid"]
    assert _words((await made.chat(stream=True)).text) == "w1 w2 w3 "
    assert made.asked() == [1, 0, 1]


async def test_an_answer_of_two_targets_is_not_kept(routed: Make) -> None:
    made = await routed(
        lambda urls: [
            route("r", target("a", urls[0]), target("b", urls[1]), routing=CONTINUE).model_copy(
                update={"cache": CachePolicy(bill_hits="full")}
            )
        ]
    )
    made.upstreams[0].script = ["die-mid"]
    told = [await made.chat(stream=True) for _ in range(3)]
    assert {_words(answer.text) for answer in told} == {"w1 w2 w3 "}
    assert [answer.headers["x-foundry-cache"] for answer in told] == ["miss", "miss", "hit"]
    costs = [Decimal(record["cost_usd"]) for record in made.rig.records()]
    assert costs == [_cost(2 * PROMPT_TOKENS, 3), _cost(PROMPT_TOKENS, 3), _cost(PROMPT_TOKENS, 3)]
