"""The Responses API through the official client: stored, continued, replayed, listed, cancelled, never across projects."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from foundry.gateway.stateful.objects import Objects
from foundry.gateway.stateful.responses.store import Responses
from foundry.settings import Settings
from foundry.types.responses import StoredResponse
from tests.foundry.gateway.conftest import Rig
from tests.support.scripted_upstream import OUTPUT_TOKENS, PROMPT_TOKENS

MakeRig = Callable[..., Awaitable[Rig]]


def client_of(made: Rig, key: str = "good") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=made.url + "/v1", api_key=made.keys[key], max_retries=0)


def _said(made: Rig) -> list[tuple[str, str]]:
    """What the upstream was last asked: role and text of each turn."""
    _, body = made.upstream.requests[-1]
    texts: list[tuple[str, str]] = []
    for message in body["messages"]:
        content = message["content"]
        texts.append((message["role"], content if isinstance(content, str) else content[0]["text"]))
    return texts


async def test_a_response_is_stored_and_got_and_deleted(rig: MakeRig) -> None:
    made = await rig()
    async with client_of(made) as client:
        created = await client.responses.create(model="own-ok", input="hello", metadata={"a": "b"})
        assert created.id.startswith("resp_")
        assert (created.status, created.output_text) == ("completed", "one two three")
        got = await client.responses.retrieve(created.id)
        assert got == created
        await client.responses.delete(created.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(created.id)
        unstored = await client.responses.create(model="own-ok", input="hello", store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(unstored.id)
    records = made.records()
    assert {record["protocol"] for record in records} == {"responses"}
    assert (records[0]["input_tokens"], records[0]["output_tokens"]) == (PROMPT_TOKENS, OUTPUT_TOKENS)


async def test_a_conversation_goes_on_from_a_previous_response(rig: MakeRig) -> None:
    made = await rig()
    async with client_of(made) as client:
        first = await client.responses.create(model="own-ok", input="one", instructions="be brief")
        second = await client.responses.create(model="own-ok", input="two", previous_response_id=first.id)
        third = await client.responses.create(
            model="own-ok", input=[{"role": "user", "content": "three"}], previous_response_id=second.id
        )
        assert third.previous_response_id == second.id
        assert _said(made) == [
            ("user", "one"), ("assistant", "one two three"), ("user", "two"), ("assistant", "one two three"), ("user", "three"),
        ]  # fmt: skip
        items = [item async for item in client.responses.input_items.list(third.id, order="asc", limit=2)]
        assert [json.loads(item.model_dump_json())["content"][0]["text"] for item in items] == [
            "one", "one two three", "two", "one two three", "three",
        ]  # fmt: skip
        assert len({item.id for item in items}) == 5
        newest = await client.responses.input_items.list(third.id, limit=1)
        assert newest.data[0].id == items[-1].id
        assert newest.has_more
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError, match=first.id):
            await client.responses.create(model="own-ok", input="x", previous_response_id=second.id)


async def test_a_streamed_response_is_stored_and_replayed(rig: MakeRig) -> None:
    made = await rig()
    async with client_of(made) as client:
        stream = await client.responses.create(model="own-ok", input="hello", stream=True)
        events = [event async for event in stream]
        last = events[-1]
        assert last.type == "response.completed"
        got = await client.responses.retrieve(last.response.id)
        assert got == last.response
        replayed = [event async for event in await client.responses.retrieve(got.id, stream=True)]
        assert replayed[-1].type == "response.completed"
        text = "".join(event.delta for event in replayed if event.type == "response.output_text.delta")
        assert text == got.output_text
        rest = [
            event async for event in await client.responses.retrieve(got.id, stream=True, starting_after=2)
        ]
        assert [event.sequence_number for event in rest] == [event.sequence_number for event in replayed[3:]]


async def test_another_project_sees_nothing(rig: MakeRig) -> None:
    made = await rig()
    async with client_of(made) as client, client_of(made, "stranger") as stranger:
        created = await client.responses.create(model="own-ok", input="hello")
        calls: list[Callable[..., Awaitable[Any]]] = [
            stranger.responses.retrieve, stranger.responses.delete, stranger.responses.cancel,
            stranger.responses.input_items.list,
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(openai.NotFoundError):
                await call(created.id)
        with pytest.raises(openai.NotFoundError) as caught:
            await stranger.responses.create(model="own-ok", input="x", previous_response_id=created.id)
        assert caught.value.code == "previous_response_not_found"
        assert f"Previous response with id '{created.id}' not found." in str(caught.value)


@pytest.mark.parametrize("model", ["own-status-400", "own-die-before", "own-error-mid"])
async def test_failures_are_not_stored(rig: MakeRig, model: str) -> None:
    made = await rig()
    async with made.client() as client:
        await client.post(
            "/v1/responses", json={"model": model, "input": "x", "stream": model.endswith("mid")}
        )
    assert not [path for path in (made.home.path / "objects").rglob("*") if path.is_file()]


async def _until(client: openai.AsyncOpenAI, response_id: str, *statuses: str) -> Any:
    async with asyncio.timeout(60):
        while True:
            response = await client.responses.retrieve(response_id)
            if response.status in statuses:
                return response
            await asyncio.sleep(0.05)


async def test_a_response_in_the_background(rig: MakeRig) -> None:
    made = await rig()
    async with client_of(made) as client:
        queued = await client.responses.create(model="own-ok", input="hello", background=True)
        assert queued.status == "queued"
        done = await _until(client, queued.id, "completed")
        assert (done.id, done.output_text, done.background) == (queued.id, "one two three", True)
        again = await client.responses.create(model="own-ok", input="more", previous_response_id=done.id)
        assert _said(made)[-2:] == [("assistant", "one two three"), ("user", "more")]
        assert (await client.responses.cancel(done.id)).status == "completed"
        with pytest.raises(openai.BadRequestError, match="synchronous"):
            await client.responses.cancel(again.id)
    used = [record for record in made.records() if record["output_tokens"]]
    assert len(used) == 2


async def test_a_response_in_the_background_that_fails_says_why(rig: MakeRig) -> None:
    made = await rig()
    async with client_of(made) as client:
        queued = await client.responses.create(model="own-status-400", input="hello", background=True)
        failed = await _until(client, queued.id, "failed")
    assert failed.error.message == "scripted 400"


async def test_a_response_in_the_background_is_cancelled(rig: MakeRig) -> None:
    made = await rig()
    async with client_of(made) as client:
        queued = await client.responses.create(model="own-slow", input="hello", background=True)
        async with asyncio.timeout(60):
            while not made.upstream.requests:
                await asyncio.sleep(0.01)
        assert (await client.responses.cancel(queued.id)).status == "cancelled"
        async with asyncio.timeout(60):
            while not [record for record in made.records() if record["outcome"] == "aborted"]:
                await asyncio.sleep(0.01)
        assert (await client.responses.retrieve(queued.id)).status == "cancelled"


async def test_a_response_whose_replica_stops_has_failed(rig: MakeRig) -> None:
    made = await rig()
    async with client_of(made) as client:
        queued = await client.responses.create(model="own-slow", input="hello", background=True)
        await made.gateway.state.background.aclose()
        failed = await _until(client, queued.id, "failed")
        assert "stopped" in failed.error.message
        with pytest.raises(openai.InternalServerError):
            await client.responses.create(model="own-ok", input="hello", background=True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True, "stream": True}, "stream"),
        ({"background": True, "store": False}, "store"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"input": 5}, "input"),
    ],
)
async def test_what_is_wrong_is_named(rig: MakeRig, fields: dict[str, Any], param: str) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.post("/v1/responses", json={"model": "own-ok", "input": "x", **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def _stored(**fields: Any) -> StoredResponse:
    now = int(time.time())
    base: dict[str, Any] = {
        "id": "resp_1", "created_at": now, "expires_at": now + 60, "status": "completed", "ancestors": (), "input": (),
        "response": msgspec.Raw(b'{"id":"resp_1","status":"completed"}'),
    }  # fmt: skip
    return StoredResponse(**{**base, **fields})


async def test_what_is_over_is_gone_and_a_silent_replica_is_dead(tmp_path: Path) -> None:
    responses = Responses(Objects.open(Settings(home=tmp_path)), retention_s=3600)
    await responses.put("p", _stored(expires_at=int(time.time()) - 1))
    assert await responses.find("p", "resp_1") is None
    await responses.put("p", _stored(status="in_progress", beaten_at=time.time()))
    living = await responses.find("p", "resp_1")
    assert living is not None
    assert living.status == "in_progress"
    await responses.put("p", _stored(status="in_progress", beaten_at=time.time() - 1000))
    dead = await responses.find("p", "resp_1")
    assert dead is not None
    assert dead.status == "failed"
    assert b"replica" in bytes(dead.response)
    assert await responses.sweep() == 0
    swept = Responses(Objects.open(Settings(home=tmp_path)), retention_s=1e-9)
    assert await swept.sweep() == 1
    assert await responses.find("p", "resp_1") is None
