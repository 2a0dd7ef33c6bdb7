"""Limits where no target is asked, or more than one: files and other endpoints, guards' questions, shadows, the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from foundry.gateway.limits.estimate import BYTES_PER_RESERVED_TOKEN
from foundry.gateway.snapshot import SnapshotStore
from foundry.types.guardrails import GuardEntry, GuardrailProfile
from foundry.types.limits import LimitEntry
from tests.foundry.gateway.conftest import PRICE, Rig
from tests.foundry.gateway.guardrails.conftest import MakeRig as MakeGuarded
from tests.foundry.gateway.guardrails.conftest import guarded
from tests.foundry.gateway.limits.cluster import limit
from tests.foundry.gateway.routing.conftest import Make, route, routed, target
from tests.foundry.gateway.routing.test_dispatch import until
from tests.support.instance import Home
from tests.support.scripted_upstream import OUTPUT_TOKENS, PROMPT_TOKENS

__all__ = ["guarded", "routed"]
MakeRig = Callable[..., Awaitable[Rig]]
USED = PROMPT_TOKENS + OUTPUT_TOKENS


def _hold(home: Home, snapshots: SnapshotStore, *limits: LimitEntry, **more: object) -> None:
    """From now on these limits hold."""
    index = snapshots.current()
    routes = [found.entry for found in index.routes.values()]
    home.write_snapshot(list(index.keys.values()), routes, 2, limits=limits, **more)
    snapshots.load()


def _chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **more}


async def test_requests_to_every_endpoint_count(rig: MakeRig) -> None:
    made = await rig()
    _hold(
        made.home,
        made.gateway.snapshots,
        limit("requests", 4, name="daily", scope="key"),
        limit("requests", 0, name="elsewhere", scope="key", routes=("no-such",)),
        limit("tokens", 0, name="t", scope="key", routes=("embed",)),
    )
    async with made.client() as client, made.client("sibling") as sibling:
        answers = [
            await client.get("/v1/models"),
            await client.post(
                "/v1/files", files={"file": ("a", b"x" * 70_000)}, data={"purpose": "user_data"}
            ),
            await client.get("/v1/files"),
            await client.post("/v1/chat/completions", json=_chat("own-ok")),
        ]
        assert [answer.status_code for answer in answers] == [200] * 4
        told = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
        assert told == ["3", "2", "1", "0"]
        for path in ("/v1/models", "/v1/files", "/v1/batches", "/v1/responses/resp_1"):
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "limit_exceeded"), path
            assert "'daily'" in refused.json()["error"]["message"]
        assert (await sibling.get("/v1/files")).status_code == 200
    assert {record["outcome"] for record in made.records()[4:-1]} == {"rejected"}


async def test_a_download_that_is_left_gives_its_place_back(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        data = b"x" * (16 * 1024 * 1024)
        uploaded = await client.post("/v1/files", files={"file": ("a", data)}, data={"purpose": "user_data"})
        path = f"/v1/files/{uploaded.json()['id']}/content"
        _hold(made.home, made.gateway.snapshots, limit("concurrency", 1))
        async with client.stream("GET", path) as answer:
            await anext(answer.aiter_raw())
            assert (await client.get("/v1/models")).status_code == 429
        async with asyncio.timeout(10):
            while (await client.get("/v1/models")).status_code != 200:
                await asyncio.sleep(0.02)


async def test_a_guards_question_is_charged_and_is_not_one_more_request(guarded: MakeGuarded) -> None:
    rig = await guarded(checked=[GuardEntry(kind="moderation", options={"route": "mod"}, stages=("input",))])
    profile = GuardrailProfile(
        name="checked",
        guards=(GuardEntry(kind="moderation", options={"route": "mod"}, stages=("input",)),),
    )
    _hold(
        rig.home,
        rig.gateway.snapshots,
        limit("requests", 2, name="r"),
        limit("concurrency", 1, name="c"),
        limit("tokens", 10_000, name="t"),
        guardrails=(profile,),
    )
    first = await rig.chat("checked", "hello")
    assert first.status_code == 200
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    answered, asked = 10 + 1, 5
    assert first.headers["x-ratelimit-remaining-tokens"] == str(10_000 - answered - asked)
    assert [(await rig.chat("checked", "hello")).status_code for _ in range(2)] == [200, 429]


async def test_a_guards_question_meets_the_limits_of_the_route_that_it_asks(guarded: MakeGuarded) -> None:
    entry = GuardEntry(kind="moderation", options={"route": "mod"}, stages=("input",))
    rig = await guarded(checked=[entry])
    _hold(
        rig.home,
        rig.gateway.snapshots,
        limit("requests", 1, name="m", scope="route", subjects=("mod",)),
        guardrails=(GuardrailProfile(name="checked", guards=(entry,)),),
    )
    assert [(await rig.chat("checked", "hello")).status_code for _ in range(2)] == [200, 503]


async def test_the_copy_for_a_shadow_is_on_nobodys_account(routed: Make) -> None:
    made = await routed(
        lambda urls: [route("r", target("a", urls[0]), target("s", urls[1], shadow_percent=100))]
    )
    _hold(made.rig.home, made.gateway.snapshots, limit("tokens", 1000), limit("usd", 1, name="b"))
    await made.chat(max_tokens=5)
    await until(lambda: len(made.rig.records()) == 2)
    assert made.asked() == [1, 1]
    answer = await made.chat(max_tokens=5)
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(1000 - 2 * USED)


@pytest.mark.parametrize(("name", "asked"), [("cached-full", 3), ("cached-ok", 1)])
async def test_a_hit_is_charged_where_hits_are_billed(rig: MakeRig, name: str, asked: int) -> None:
    cost = PROMPT_TOKENS * (PRICE.input_per_mtok_usd or 0) + OUTPUT_TOKENS * (PRICE.output_per_mtok_usd or 0)
    body = httpx.Request("POST", "http://x", json=_chat(name)).content
    reserve = -(-len(body) // BYTES_PER_RESERVED_TOKEN) * (PRICE.input_per_mtok_usd or 0)
    reserve += 5 * (PRICE.output_per_mtok_usd or 0)
    budget = (Decimal(2 * cost + reserve) / 1_000_000).quantize(Decimal("0.000000001"))
    made = await rig()
    _hold(made.home, made.gateway.snapshots, limit("usd", str(budget)), limit("tokens", 1000, name="t"))
    async with made.client() as client:
        answers = [await client.post("/v1/chat/completions", json=_chat(name)) for _ in range(4)]
    assert [answer.headers.get("x-foundry-cache") for answer in answers[:3]] == ["miss", "hit", "hit"]
    assert answers[2].headers["x-ratelimit-remaining-tokens"] == str(1000 - asked * USED)
    assert answers[3].status_code == (402 if name == "cached-full" else 200)
