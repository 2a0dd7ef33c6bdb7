"""Engines scaled to zero: who asks for them wakes them, and nothing else does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundry.gateway.routing import wake
from foundry.types.deployment import DeploymentPhase
from foundry.types.snapshot import EngineTarget, RouteEntry
from tests.foundry.gateway.routing.conftest import Make, Routed, route, target, vendor
from tests.foundry.gateway.routing.test_dispatch import until

IDLE, READY = DeploymentPhase.IDLE, DeploymentPhase.READY


def _engine(url: str, phase: DeploymentPhase = IDLE, **fields: Any) -> EngineTarget:
    return target("smol", url, phase=phase, **fields)


async def _asleep(routed: Make, **hold: Any) -> Routed:
    def routes(urls: list[str]) -> list[RouteEntry]:
        return [route("r", _engine(urls[0]), routing={"hold": hold})]

    made = await routed(routes, upstreams=1)
    made.upstreams[0].asleep = True
    return made


def _up(made: Routed) -> None:
    """As the reconciler publishes it when a replica answers."""
    made.upstreams[0].asleep = False
    made.publish(route("r", _engine(made.upstreams[0].url, READY)))


async def test_one_get_wakes_it_however_many_wait_and_is_given_up_when_it_is_ready(routed: Make) -> None:
    made = await _asleep(routed)
    upstream, waker = made.upstreams[0], made.gateway.routing.waker
    waiting = [asyncio.create_task(made.chat()) for _ in range(5)]
    await until(lambda: made.gateway.routing.board.plan(*_route(made)).memory.held == 5)
    await until(lambda: upstream.probes == 1)
    made.publish(route("r", _engine(upstream.url, DeploymentPhase.LOADING)))
    assert not upstream.cut.is_set()
    assert waker.woken == {"smol"}
    _up(made)
    answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {200}
    await asyncio.wait_for(upstream.cut.wait(), 10)
    await until(lambda: not waker.woken)
    assert upstream.probes == 1
    assert all(record["queue_ms"] > 0 for record in made.rig.records())


def _route(made: Routed) -> tuple[Any, Any]:
    index = made.gateway.snapshots.current()
    return index, index.routes["r"]


async def test_callers_who_do_not_wait_wake_it_too(routed: Make) -> None:
    made = await _asleep(routed)
    answer = await made.chat(headers={"x-foundry-wait": "no"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "deployment_not_ready")
    assert "retry-after" in answer.headers
    await until(lambda: made.upstreams[0].probes == 1)


async def test_callers_who_overflow_wake_it_too(routed: Make) -> None:
    def routes(urls: list[str]) -> list[RouteEntry]:
        first = route("r", _engine(urls[0]), routing={"hold": {"overflow_route": "spare"}})
        return [first, route("spare", vendor("v", urls[1]))]

    made = await routed(routes)
    made.upstreams[0].asleep = True
    answer = await made.chat()
    assert (answer.status_code, answer.headers["x-foundry-fallback"]) == (200, "spare")
    await until(lambda: made.upstreams[0].probes == 1)


@pytest.mark.parametrize("phase", [DeploymentPhase.FAILED, DeploymentPhase.DELETING])
async def test_an_engine_that_cannot_start_is_not_asked_for_any_more(
    routed: Make, phase: DeploymentPhase
) -> None:
    made = await _asleep(routed)
    waiting = asyncio.create_task(made.chat())
    await until(lambda: made.upstreams[0].probes == 1)
    made.publish(route("r", _engine(made.upstreams[0].url, phase)))
    assert (await waiting).status_code == 503
    await until(lambda: not made.gateway.routing.waker.woken)


async def test_nobody_asks_for_it_for_ever(routed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "LINGER_S", 0.1)
    made = await _asleep(routed)
    await made.chat(headers={"x-foundry-wait": "no"})
    await until(lambda: made.upstreams[0].probes == 1)
    await asyncio.wait_for(made.upstreams[0].cut.wait(), 10)
    assert not made.gateway.routing.waker.woken


async def test_an_application_that_is_not_there_yet_is_asked_again(
    routed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "_AGAIN_S", 0.01)
    made = await _asleep(routed)
    made.upstreams[0].asleep = made.upstreams[0].alive = False
    waiting = asyncio.create_task(made.chat())
    await until(lambda: made.upstreams[0].probes >= 3)
    _up(made)
    assert (await waiting).status_code == 200


async def test_stopping_the_gateway_stops_it(routed: Make) -> None:
    made = await _asleep(routed)
    await made.chat(headers={"x-foundry-wait": "no"})
    await until(lambda: made.upstreams[0].probes == 1)
    await made.gateway.routing.aclose()
    await asyncio.wait_for(made.upstreams[0].cut.wait(), 10)


async def test_a_probe_leaves_an_engine_asleep(routed: Make) -> None:
    """Its breaker was open when it was scaled to zero: the probe must not wake it."""
    health = {"min_requests": 1, "max_error_rate": 0.5, "open_s": 60, "probe_interval_s": 0.05}

    def entry(url: str, phase: DeploymentPhase) -> RouteEntry:
        routing = {"health": health, "retries": {"attempts": 0}}
        return route("r", _engine(url, phase), routing=routing)

    made = await routed(lambda urls: [entry(urls[0], READY)], upstreams=1)
    upstream, prober = made.upstreams[0], made.gateway.routing.prober
    upstream.alive, upstream.script = False, ["status-503"]
    await made.chat()
    await until(lambda: upstream.probes >= 1)
    made.publish(entry(upstream.url, IDLE))
    await until(lambda: not prober.watched)
    seen = upstream.probes
    made.publish(entry(upstream.url, IDLE))
    assert (upstream.probes, prober.watched) == (seen, frozenset())
