"""Caps and queues over real sockets: who waits, who is refused, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.foundry.gateway.routing.conftest import Make, route, target
from tests.foundry.gateway.routing.test_dispatch import FAST, until


async def test_a_target_at_its_cap_gives_way_and_a_route_at_its_cap_queues(routed: Make) -> None:
    def routes(urls: list[str]) -> list[Any]:
        return [
            route("two", target("a", urls[0], model="gated", max_concurrency=1), target("b", urls[1])),
            route("one", target("a", urls[0], model="gated", max_concurrency=1)),
        ]

    made = await routed(routes)
    first = asyncio.create_task(made.chat("two"))
    await until(lambda: made.asked() == [1, 0])
    assert (await made.chat("two")).headers["x-foundry-target"] == "engine/b"
    state = made.gateway.routing.board.targets["engine/a"]
    second = asyncio.create_task(made.chat("one"))
    await until(lambda: state.waiting == 1)
    assert made.asked() == [1, 1], "it waits here, not there"
    made.upstreams[0].gate.set()
    answer = await second
    assert float(answer.headers["x-foundry-queue-ms"]) > 0
    assert "x-foundry-queue-ms" not in (await first).headers
    assert made.rig.records()[-1]["queue_ms"] > 0
    assert (state.in_flight, state.waiting) == (0, 0)


async def test_a_full_queue_is_503_and_a_caller_that_leaves_frees_its_place(routed: Make) -> None:
    def routes(urls: list[str]) -> list[Any]:
        gated = target("a", urls[0], model="gated", max_concurrency=1)
        return [route("r", gated, routing={"queue": {"max_waiting": 1}})]

    made = await routed(routes, upstreams=1)
    first = asyncio.create_task(made.chat())
    await until(lambda: made.asked() == [1])
    state = made.gateway.routing.board.targets["engine/a"]
    waiting = asyncio.create_task(made.chat())
    await until(lambda: state.waiting == 1)
    refused = await made.chat()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_full")
    assert refused.headers["retry-after"] == "1"
    waiting.cancel()
    await until(lambda: state.waiting == 0)
    made.upstreams[0].gate.set()
    assert (await first).status_code == 200
    assert made.asked() == [1]
    outcomes = sorted(record["outcome"] for record in made.rig.records())
    assert outcomes == ["aborted", "completed", "rejected"]


async def test_the_queue_has_a_deadline(routed: Make) -> None:
    gated = {"model": "gated", "max_concurrency": 1}
    made = await routed(
        lambda urls: [route("r", target("a", urls[0], **gated), routing={"queue": {"deadline_s": 0.05}})],
        upstreams=1,
    )
    first = asyncio.create_task(made.chat())
    await until(lambda: made.asked() == [1])
    answer = await made.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_full")
    made.upstreams[0].gate.set()
    await first


async def test_a_caller_that_leaves_lets_go_of_the_target(routed: Make) -> None:
    made = await routed(lambda urls: [route("r", target("a", urls[0], model="slow"))], upstreams=1)
    waiting = asyncio.create_task(made.chat())
    await until(lambda: made.asked() == [1])
    state = made.gateway.routing.board.targets["engine/a"]
    assert state.in_flight == 1
    waiting.cancel()
    await asyncio.wait_for(made.upstreams[0].cut.wait(), 10)
    await until(lambda: state.in_flight == 0)


async def test_many_at_once_over_caps_failures_and_callers_that_leave_leak_nothing(routed: Make) -> None:
    def routes(urls: list[str]) -> list[Any]:
        capped = [target(name, url, max_concurrency=2) for name, url in zip("ab", urls, strict=True)]
        return [
            route("r", *capped, routing={**FAST, "policy": "least_loaded", "health": {"min_requests": 1000}})
        ]

    made = await routed(routes)
    for upstream in made.upstreams:
        upstream.script = ["die-before", "ok", "status-500", "ok", "die-before"] * 2
    asked = [asyncio.create_task(made.chat(stream=n % 2 == 0)) for n in range(40)]
    await until(lambda: sum(made.asked()) >= 8)
    for task in asked[30:]:
        task.cancel()
    answers = await asyncio.gather(*asked[:30])
    assert [answer.status_code for answer in answers] == [200] * 30
    await asyncio.gather(*asked, return_exceptions=True)
    states = made.gateway.routing.board.targets.values()
    await until(
        lambda: all((state.in_flight, state.waiting, len(state.rooms)) == (0, 0, 0) for state in states)
    )
