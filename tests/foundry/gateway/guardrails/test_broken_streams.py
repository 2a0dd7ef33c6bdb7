"""Guarded streams that break off or are refused, and the Responses API, whose last event says everything again."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from foundry.types.guardrails import GuardEntry
from tests.foundry.gateway.guardrails.conftest import MakeRig, Rig

SECRET = "zeus-123456"
LEAD = "all of this is harmless and goes on for a while. "
OPTIONS: dict[str, Any] = {"patterns": {"GOD": r"zeus-\d+"}}


def _guard(action: str) -> GuardEntry:
    fields = {"kind": "regex", "action": action, "stages": ("stream",), "options": OPTIONS}
    return GuardEntry.model_validate(fields)


async def _respond(rig: Rig, route: str, text: str) -> tuple[str, list[dict[str, Any]]]:
    headers = {"authorization": f"Bearer {rig.keys['plain']}"}
    body = {"model": route, "input": text, "stream": True, "store": False}
    parts = list[str]()
    async with (
        httpx.AsyncClient(base_url=rig.url, headers=headers, timeout=90) as client,
        client.stream("POST", "/v1/responses", json=body) as answer,
    ):
        async for part in answer.aiter_text():
            parts.append(part)
            rig.echo.go.set()  # the rest comes when something has gone out
    text = "".join(parts)
    return text, [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def _numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["sequence_number"] for event in events]


async def test_the_whole_response_at_the_end_is_redacted_too(guarded: MakeRig) -> None:
    rig = await guarded(hide=[_guard("redact")])
    told, events = await _respond(rig, "hide", LEAD + SECRET + " and more")
    assert SECRET not in told
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == LEAD + "<GOD> and more"
    assert _numbers(events) == list(range(len(events)))


async def test_a_response_that_breaks_off_ends_as_failed_with_all_that_was_said(guarded: MakeRig) -> None:
    rig = await guarded(hide=[_guard("redact")])
    text = LEAD + SECRET + " " + LEAD * 3
    rig.echo.break_at = len(LEAD + SECRET) + 14
    told, events = await _respond(rig, "hide", text)
    assert SECRET not in told
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["code"] == "server_error"
    assert _numbers(events) == list(range(len(events)))
    said = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert said.startswith(LEAD + "<GOD> ")
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == said
    assert rig.records()[-1]["outcome"] == "failed"


async def test_a_response_that_a_guard_refuses_tells_nothing_of_it(guarded: MakeRig) -> None:
    rig = await guarded(stop=[_guard("block")])
    rig.echo.hold_at = len(LEAD * 2)
    told, events = await _respond(rig, "stop", LEAD * 3 + SECRET + " and more. " + LEAD * 3)
    assert "zeus" not in told
    assert (events[-1]["type"], events[-1]["response"]["output"]) == ("response.failed", [])
    assert "guardrail profile 'stop'" in events[-1]["response"]["error"]["message"]
    numbers = _numbers(events)
    assert numbers == sorted(set(numbers))
    record = rig.records()[-1]
    assert (record["outcome"], record["error_code"]) == ("blocked", "guardrail_blocked")
    assert Decimal(record["cost_usd"]) > 0


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_what_a_guard_held_back_goes_out_before_the_error(guarded: MakeRig, action: str) -> None:
    rig = await guarded(g=[_guard(action)])
    rig.echo.break_at = len(LEAD) + 7
    broken = (await rig.chat("g", LEAD * 3, stream=True)).text
    assert "upstream_broke" in broken
    said = "".join(
        json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        for line in broken.splitlines()
        if line.startswith("data: ") and '"choices"' in line
    )
    assert len(said) >= len(LEAD), "the window of 40 characters was let out"
    assert said != LEAD * 3
    rig.echo.break_at = len(LEAD + SECRET) + 7
    told = (await rig.chat("g", LEAD + SECRET + " " + LEAD, stream=True)).text
    assert SECRET not in told
    assert ("upstream_broke" if action == "redact" else "guardrail_blocked") in told
    outcome = "failed" if action == "redact" else "blocked"
    assert [record["outcome"] for record in rig.records()] == ["failed", outcome]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_answer_is_blocked_billed_and_not_its_targets_fault(
    guarded: MakeRig, stream: bool
) -> None:
    rig = await guarded(stop=[_guard("block")])
    answer = await rig.chat("stop", SECRET, stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "guardrail_blocked")
    [record] = rig.records()
    assert (record["outcome"], record["status"], record["target_id"]) == ("blocked", 400, "engine/stop")
    assert Decimal(record["cost_usd"]) > 0
    [state] = rig.gateway.routing.board.targets.values()
    assert all(breaker.state == "closed" for breaker in state.breakers.values())
