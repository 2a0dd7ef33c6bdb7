"""Batches through the official client on a real gateway: run, validated, cancelled, expired, revoked, retried, metered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai.types import Batch as OpenAIBatch

from foundry.gateway.stateful.batches.folder import Batches
from foundry.gateway.stateful.objects import Objects
from foundry.types.batch import Batch, BatchOwner
from tests.foundry.gateway.conftest import Rig
from tests.support.scripted_upstream import OUTPUT_TOKENS, PROMPT_TOKENS

pytestmark = pytest.mark.long

MakeRig = Callable[..., Awaitable[Rig]]
FAST: dict[str, Any] = {"batch_poll_s": 0.1, "batch_lease_s": 2.0}


def client_of(made: Rig, key: str = "good") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=made.url + "/v1", api_key=made.keys[key], max_retries=0)


def line(custom_id: str, model: str = "own-ok", **changes: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": custom_id}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in lines) + b"\n"


async def submit(
    client: openai.AsyncOpenAI, lines: list[dict[str, Any]] | bytes, **fields: Any
) -> OpenAIBatch:
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **fields
    )


async def until(client: openai.AsyncOpenAI, batch_id: str, *statuses: str) -> OpenAIBatch:
    async with asyncio.timeout(60):
        while True:
            batch = await client.batches.retrieve(batch_id)
            if batch.status in statuses:
                return batch
            await asyncio.sleep(0.05)


async def read(client: openai.AsyncOpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    assert file_id is not None
    content = (await client.files.content(file_id)).content
    return {item["custom_id"]: item for item in map(json.loads, content.splitlines())}


async def test_lines_are_run_on_the_owners_key_and_metered(rig: MakeRig) -> None:
    made = await rig(**FAST)
    async with client_of(made) as client:
        lines = [line(f"c{i}") for i in range(20)] + [
            line("bad", "own-status-400"),
            line("who", "no-such-model"),
        ]
        created = await submit(client, lines, metadata={"a": "b"})
        assert (created.status, created.metadata, created.object) == ("validating", {"a": "b"}, "batch")
        done = await until(client, created.id, "completed")
        output, errors = await read(client, done.output_file_id), await read(client, done.error_file_id)
        named = await client.files.retrieve(done.output_file_id or "")
        listed = [batch.id async for batch in client.batches.list()]
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 22, "completed": 20, "failed": 2}
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens) == (20 * PROMPT_TOKENS, 20 * OUTPUT_TOKENS)
    assert listed == [done.id]
    assert named.purpose == "batch_output"
    assert set(output) == {f"c{i}" for i in range(20)}
    answer = output["c3"]["response"]
    assert (answer["status_code"], answer["request_id"]) == (200, f"{done.id}-000004")
    assert answer["body"]["choices"][0]["message"]["content"] == "one two three"
    assert errors["bad"]["response"]["status_code"] == 400
    assert errors["who"]["response"]["body"]["error"]["code"] == "model_not_found"
    records = [record for record in made.records() if record["batch_id"] == done.id]
    assert len(records) == 22
    assert {record["key_id"] for record in records} == {made.records()[0]["key_id"]}
    assert sum(Decimal(record["cost_usd"]) for record in records) > 0
    left = [
        path
        for path in (made.home.path / "objects").rglob("*")
        if "parts" in path.parts or "lease" in path.parts
    ]
    assert not [path for path in left if path.is_file()]


async def test_what_is_wrong_with_an_input_file_is_told_by_line(rig: MakeRig) -> None:
    made = await rig(**FAST)
    wrong = [
        line("a"), line("a"), line("b", method="GET"), line("c", url="/v1/embeddings"),
        line("d", body={"messages": []}), line("e", body={"model": "own-ok", "stream": True}), line(""),
    ]  # fmt: skip
    async with client_of(made) as client:
        batch = await submit(client, jsonl(wrong) + b"{nonsense\n[1]\n")
        failed = await until(client, batch.id, "failed")
        empty = await until(client, (await submit(client, b"\n\n")).id, "failed")
    assert failed.errors is not None
    assert [(error.line, error.code) for error in failed.errors.data or []] == [
        (2, "duplicate_custom_id"), (3, "invalid_method"), (4, "mismatched_endpoint"), (5, "invalid_body"),
        (6, "streaming_not_supported"), (7, "missing_custom_id"), (8, "invalid_json_line"), (9, "invalid_request"),
    ]  # fmt: skip
    assert empty.errors is not None
    assert [error.code for error in empty.errors.data or []] == ["empty_file"]
    assert not made.upstream.requests


async def test_what_is_wrong_with_a_batch_is_refused_at_once(rig: MakeRig) -> None:
    made = await rig(**FAST)
    async with client_of(made) as client, client_of(made, "stranger") as stranger:
        file = await client.files.create(file=("a", b"x"), purpose="user_data")
        batch = await client.files.create(file=("a", jsonl([line("a")])), purpose="batch")
        good: dict[str, Any] = {
            "input_file_id": batch.id, "endpoint": "/v1/chat/completions", "completion_window": "24h",
        }  # fmt: skip
        for changes, param in [
            ({"endpoint": "/v1/nothing"}, "endpoint"),
            ({"completion_window": "1h"}, "completion_window"),
            ({"input_file_id": file.id}, "input_file_id"),
            ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ]:
            with pytest.raises(openai.BadRequestError) as caught:
                fields: dict[str, Any] = {**good, **changes}
                await client.batches.create(**fields)
            assert caught.value.param == param
        with pytest.raises(openai.NotFoundError):
            await stranger.batches.create(**good)
        made_batch = await client.batches.create(**good)
        for call in (stranger.batches.retrieve, stranger.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                await call(made_batch.id)
        assert [found async for found in stranger.batches.list()] == []
        await until(client, made_batch.id, "completed")
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(made_batch.id)


async def test_a_cancelled_batch_keeps_what_was_done(rig: MakeRig) -> None:
    made = await rig(**FAST, batch_concurrency=1)
    async with client_of(made) as client:
        batch = await submit(client, [line(f"c{i}") for i in range(3000)])
        async with asyncio.timeout(60):
            while len(made.upstream.requests) < 5:
                await asyncio.sleep(0.01)
        cancelling = await client.batches.cancel(batch.id)
        assert cancelling.status == "cancelling"
        done = await until(client, batch.id, "cancelled")
        output = await read(client, done.output_file_id)
    asked = len(made.upstream.requests)
    assert 5 <= asked < 3000
    assert len(output) == asked
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (asked, 0)


async def test_an_expired_batch_keeps_what_was_done_and_names_the_rest(rig: MakeRig) -> None:
    made = await rig(**FAST)
    async with client_of(made) as client:
        lines = [line("quick"), line("slow-1", "own-slow"), line("slow-2", "own-slow")]
        file = await client.files.create(file=("in", jsonl(lines)), purpose="batch")
        key_id = made.records()[-1]["key_id"]
        key_hash = next(
            digest
            for digest, entry in made.gateway.snapshots.current().keys.items()
            if entry.key_id == key_id
        )
        now = int(time.time())
        batch = Batch(
            id="batch_x", endpoint="/v1/chat/completions", input_file_id=file.id, status="validating",
            created_at=now, expires_at=now + 3,
        )  # fmt: skip
        objects = Objects.open(made.home.settings())
        await Batches(objects).add(batch, BatchOwner(project_id="proj_1", key_id=key_id, key_hash=key_hash))
        done = await until(client, batch.id, "expired")
        output, errors = await read(client, done.output_file_id), await read(client, done.error_file_id)
    assert set(output) == {"quick"}
    assert {name: item["error"]["code"] for name, item in errors.items()} == {
        "slow-1": "batch_expired", "slow-2": "batch_expired",
    }  # fmt: skip
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 3, "completed": 1, "failed": 2}


async def test_a_revoked_key_makes_the_lines_fail(rig: MakeRig) -> None:
    made = await rig(**FAST)
    made.upstream.fail_first = 1_000_000
    async with client_of(made) as client, client_of(made, "sibling") as sibling:
        batch = await submit(client, [line("a"), line("b")])
        await until(client, batch.id, "in_progress")
        index = made.gateway.snapshots.current()
        revoked = made.records()[0]["key_id"]
        keys = [entry for entry in index.keys.values() if entry.key_id != revoked]
        made.home.write_snapshot(keys, [route.entry for route in index.routes.values()], version=2)
        made.gateway.snapshots.load()
        done = await until(sibling, batch.id, "completed")
        errors = await read(sibling, done.error_file_id)
    assert {item["response"]["status_code"] for item in errors.values()} == {401}


async def test_a_target_that_is_busy_is_asked_again(rig: MakeRig) -> None:
    made = await rig(**FAST)
    made.upstream.fail_first = 4  # one more than the lifecycle itself tries
    async with client_of(made) as client:
        batch = await submit(client, [line("a")])
        done = await until(client, batch.id, "completed")
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 0)
    assert len(made.upstream.requests) == 5
    ids = [record["request_id"] for record in made.records() if record["batch_id"]]
    assert ids == [f"{batch.id}-000001"] * 2


@pytest.mark.parametrize(
    ("endpoint", "body", "tokens"),
    [
        ("/v1/embeddings", {"model": "embed", "input": "x"}, 0),
        ("/v1/responses", {"model": "own-ok", "input": "x"}, OUTPUT_TOKENS),
        (
            "/v1/messages",
            {"model": "own-ok", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
            OUTPUT_TOKENS,
        ),
    ],
)
async def test_other_protocols_are_batched_too(
    rig: MakeRig, endpoint: Any, body: dict[str, Any], tokens: int
) -> None:
    made = await rig(**FAST)
    lines = [{"custom_id": f"c{i}", "method": "POST", "url": endpoint, "body": body} for i in range(3)]
    async with client_of(made) as client:
        file = await client.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
        done = await until(client, batch.id, "completed")
        output = await read(client, done.output_file_id)
        if endpoint == "/v1/responses":
            stored = output["c0"]["response"]["body"]["id"]
            assert (await client.responses.retrieve(stored)).output_text == "one two three"
    assert set(output) == {"c0", "c1", "c2"}
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens) == (3 * PROMPT_TOKENS, 3 * tokens)


async def test_lines_wait_while_the_gateway_is_busy(rig: MakeRig) -> None:
    made = await rig(**FAST, batch_yield_above=0)
    async with client_of(made) as client, made.client() as live:
        async with live.stream(
            "POST", "/v1/chat/completions", json={**line("x")["body"], "model": "own-endless", "stream": True}
        ) as stream:
            chunks = stream.aiter_bytes()  # held: a forgotten one would close the stream
            await anext(chunks)
            batch = await submit(client, [line("a")])
            await until(client, batch.id, "in_progress")
            async with asyncio.timeout(60):
                for _ in range(20):  # the runner has had time to begin: the line still waits
                    await client.batches.retrieve(batch.id)
            assert len(made.upstream.requests) == 1
        done = await until(client, batch.id, "completed")
    assert done.request_counts is not None
    assert done.request_counts.completed == 1
