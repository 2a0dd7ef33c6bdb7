"""Requests for an engine that is still starting: they wait for the snapshot that says it is ready, or do not."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from foundry.errors import InvalidParameter
from foundry.gateway.routing.waiting import Wait, wait_of
from foundry.types.deployment import DeploymentPhase
from foundry.types.snapshot import EngineTarget, RouteEntry
from tests.foundry.gateway.routing.conftest import Make, Routed, route, target, vendor
from tests.foundry.gateway.routing.test_dispatch import until


def _starting(url: str, phase: DeploymentPhase = DeploymentPhase.LOADING, **fields: Any) -> EngineTarget:
    return target("smol", url, phase=phase, eta_s=42.0, phase_detail="reading weights", **fields)


async def _held(routed: Make, **hold: Any) -> tuple[Routed, list[str]]:
    made = await routed(lambda urls: [_route(urls[0], **hold)], upstreams=1)
    woken: list[str] = []
    made.gateway.routing.holder.wake = woken.append
    return made, woken


def _route(url: str, phase: DeploymentPhase = DeploymentPhase.LOADING, **hold: Any) -> RouteEntry:
    return route("r", _starting(url, phase), routing={"hold": hold})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_waits_for_the_snapshot_that_says_ready(routed: Make, stream: bool) -> None:
    made, woken = await _held(routed)
    waiting = asyncio.create_task(made.chat(stream=stream))
    await until(lambda: bool(woken))
    assert woken == ["smol"]
    url = made.upstreams[0].url
    made.publish(_route(url, DeploymentPhase.WARMING))
    made.publish(_route(url, DeploymentPhase.READY))
    answer = await waiting
    assert (answer.status_code, answer.headers["x-foundry-target"]) == (200, "engine/smol")
    assert float(answer.headers["x-foundry-queue-ms"]) > 0
    [record] = made.rig.records()
    assert record["outcome"] == "completed"
    assert record["queue_ms"] > 0


async def test_a_streaming_caller_may_be_told_meanwhile(routed: Make) -> None:
    made, woken = await _held(routed)
    waiting = asyncio.create_task(made.chat(stream=True, headers={"x-foundry-wait": "stream"}))
    await until(lambda: bool(woken))
    made.publish(_route(made.upstreams[0].url, DeploymentPhase.READY))
    answer = await waiting
    assert answer.text.startswith(": waiting for smol, loading, ready in about 42 s\n\n")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "w1 " in answer.text
    assert made.rig.records()[0]["status"] == 200


async def test_an_error_after_that_is_an_event(routed: Make) -> None:
    made, woken = await _held(routed, deadline_s=0.05)
    answer = await made.chat(stream=True, headers={"x-foundry-wait": "stream"})
    assert woken
    assert answer.status_code == 200
    assert '"code":"deployment_not_ready"' in answer.text
    [record] = made.rig.records()
    assert (record["outcome"], record["error_code"]) == ("rejected", "deployment_not_ready")


@pytest.mark.parametrize(
    ("headers", "hold"),
    [
        ({"x-foundry-wait": "no"}, {}),
        ({}, {"max_waiting": 0}),
        ({}, {"deadline_s": 0.05}),
        ({"x-foundry-wait": "0"}, {}),
    ],
)
async def test_whoever_does_not_wait_is_told_when_to_come_back(
    routed: Make, headers: dict[str, str], hold: dict[str, Any]
) -> None:
    made, _ = await _held(routed, **hold)
    answer = await made.chat(headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "deployment_not_ready")
    assert answer.headers["retry-after"] == "42"
    assert "loading: reading weights" in answer.json()["error"]["message"]


async def test_the_queue_is_bounded_and_callers_that_leave_leave_it(routed: Make) -> None:
    made, woken = await _held(routed, max_waiting=1)
    first = asyncio.create_task(made.chat())
    await until(lambda: bool(woken))
    full = await made.chat()
    assert (full.status_code, full.json()["error"]["code"]) == (503, "queue_full")
    first.cancel()
    await until(lambda: len(made.rig.records()) == 2)
    second = asyncio.create_task(made.chat())
    await until(lambda: len(woken) == 2)
    made.publish(_route(made.upstreams[0].url, DeploymentPhase.READY))
    assert (await second).status_code == 200


async def test_an_engine_that_fails_to_start_ends_the_wait(routed: Make) -> None:
    made, woken = await _held(routed)
    waiting = asyncio.create_task(made.chat())
    await until(lambda: bool(woken))
    made.publish(_route(made.upstreams[0].url, DeploymentPhase.FAILED))
    answer = await waiting
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "deployment_not_ready")
    assert "is failed" in answer.json()["error"]["message"]


async def test_a_route_that_is_removed_ends_the_wait(routed: Make) -> None:
    made, woken = await _held(routed)
    waiting = asyncio.create_task(made.chat())
    await until(lambda: bool(woken))
    made.publish(route("other", target("o")))
    assert (await waiting).status_code == 404


async def test_overflow_goes_to_another_route_instead_of_waiting(routed: Make) -> None:
    def routes(urls: list[str]) -> list[RouteEntry]:
        first = _route(urls[0], overflow_route="spare")
        spare = route("spare", vendor("v", urls[1]), routing={"hold": {"overflow_route": "r"}})
        return [first, spare]

    made = await routed(routes)
    answer = await made.chat()
    assert (answer.status_code, made.asked()) == (200, [0, 1])
    assert answer.headers["x-foundry-fallback"] == "spare"


async def test_overflows_that_point_at_each_other_end_in_a_wait(routed: Make) -> None:
    def routes(urls: list[str], phase: DeploymentPhase) -> list[RouteEntry]:
        first = route("r", _starting(urls[0]), routing={"hold": {"overflow_route": "s"}})
        second = route("s", target("t", urls[0], phase=phase), routing={"hold": {"overflow_route": "r"}})
        return [first, second]

    made = await routed(lambda urls: routes(urls, DeploymentPhase.LOADING), upstreams=1)
    woken: list[str] = []
    made.gateway.routing.holder.wake = woken.append
    waiting: asyncio.Task[httpx.Response] = asyncio.create_task(made.chat())
    await until(lambda: woken == ["smol", "t"])  # the engine that was overflowed is wanted too
    made.publish(*routes([made.upstreams[0].url], DeploymentPhase.READY))
    assert (await waiting).status_code == 200


async def test_a_target_that_is_ready_is_not_waited_past(routed: Make) -> None:
    made = await routed(lambda urls: [route("r", _starting(urls[0]), target("b", urls[1]))])
    assert (await made.chat()).headers["x-foundry-target"] == "engine/b"


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (b"no", Wait(willing=False)),
        (b"stream", Wait(streams=True)),
        (b"Stream; 30", Wait(streams=True, at_most_s=30.0)),
        (b"5", Wait(at_most_s=5.0)),
    ],
)
def test_the_header_says_how_long(value: bytes, wait: Wait) -> None:
    assert wait_of({b"x-foundry-wait": value}) == wait
    assert wait_of({}) == Wait()


def test_a_header_that_means_nothing_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="maybe"):
        wait_of({b"x-foundry-wait": b"maybe"})
