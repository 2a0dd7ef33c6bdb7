"""Targets that limits rule out for a request are not asked for it: not first, not as a second try, not by a fallback route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from foundry.types.limits import LimitEntry
from foundry.types.snapshot import RouteEntry
from tests.foundry.gateway.limits.cluster import limit
from tests.foundry.gateway.routing.conftest import Make, Routed, route, target

FAST: dict[str, Any] = {"retries": {"base_ms": 1, "max_ms": 2}}


async def _made(
    routed: Make, routes: Callable[[list[str]], list[RouteEntry]], *limits: LimitEntry, upstreams: int = 2
) -> Routed:
    made = await routed(routes, upstreams)
    home = made.rig.home
    urls = [upstream.url for upstream in made.upstreams]
    home.write_snapshot([made.key_entry], routes(urls), 2, limits=limits)
    made.gateway.snapshots.load()
    return made


async def test_under_a_budget_a_target_without_a_price_is_passed_by(routed: Make) -> None:
    made = await _made(
        routed,
        lambda urls: [
            route("r", target("a", urls[0], price=None), target("b", urls[1]), routing=FAST),
            route("free", target("a", urls[0], price=None), target("b", urls[1])),
        ],
        limit("usd", 1, routes=("r",)),
    )
    answer = await made.chat()
    assert (answer.status_code, answer.headers["x-foundry-target"]) == (200, "engine/b")
    assert made.asked() == [0, 1]
    assert (await made.chat("free")).headers["x-foundry-target"] == "engine/a"


async def test_it_is_no_second_choice_either(routed: Make) -> None:
    made = await _made(
        routed,
        lambda urls: [route("r", target("b", urls[1]), target("a", urls[0], price=None), routing=FAST)],
        limit("usd", 1),
    )
    made.upstreams[1].script = ["status-503", "status-503", "status-503"]
    assert (await made.chat()).status_code == 503
    assert made.asked()[0] == 0


async def test_a_model_at_its_limit_is_passed_by_and_comes_back_with_the_window(routed: Make) -> None:
    made = await _made(
        routed,
        lambda urls: [route("r", target("a", urls[0], model="ok"), target("b", urls[1], model="other"))],
        limit("requests", 2, scope="model", subjects=("ok",)),
    )
    told = [(await made.chat()).headers["x-foundry-target"] for _ in range(4)]
    assert told == ["engine/a", "engine/a", "engine/b", "engine/b"]


async def test_a_route_with_nobody_left_falls_back_as_far_as_it_can(routed: Make) -> None:
    def routes(urls: list[str]) -> list[RouteEntry]:
        return [
            route("r", target("a", urls[0], price=None), routing={"fallbacks": ("s",)}),
            route("s", target("c", urls[0], price=None), routing={"fallbacks": ("t",)}),
            route("t", target("b", urls[1])),
        ]

    made = await _made(routed, routes, limit("usd", 1))
    answer = await made.chat()
    assert (answer.status_code, answer.headers["x-foundry-target"]) == (200, "engine/b")
    assert (answer.headers["x-foundry-fallback"], made.asked()) == ("t", [0, 1])
    made.upstreams[1].script = ["status-503"] * 9
    assert (await made.chat()).status_code == 503
    assert made.asked()[0] == 0


async def test_a_price_that_only_a_shadow_has_is_none(routed: Make) -> None:
    made = await _made(
        routed,
        lambda urls: [route("r", target("a", urls[0], price=None), target("b", urls[1], shadow_percent=100))],
        limit("usd", 1),
    )
    answer = await made.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "price_unknown")
    assert made.asked() == [0, 0]
