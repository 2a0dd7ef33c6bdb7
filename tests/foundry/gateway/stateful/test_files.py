"""Files through the official client and as raw requests: kept, listed, refused, metered, never across projects."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
import openai
import pytest

from foundry.gateway.stateful.files import Files
from foundry.gateway.stateful.objects import Objects
from foundry.settings import Settings
from tests.foundry.gateway.conftest import Rig

MakeRig = Callable[..., Awaitable[Rig]]


def _client(made: Rig, key: str = "good") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=made.url + "/v1", api_key=made.keys[key], max_retries=0)


async def test_the_official_client_uploads_reads_lists_and_deletes(rig: MakeRig) -> None:
    made = await rig()
    async with _client(made) as client:
        first = await client.files.create(file=("ä.jsonl", b'{"a":1}\n'), purpose="batch")
        assert (first.bytes, first.filename, first.purpose, first.status) == (
            8,
            "ä.jsonl",
            "batch",
            "processed",
        )
        assert abs(first.created_at - time.time()) < 5
        second = await client.files.create(
            file=("b.txt", b"hello"),
            purpose="user_data",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert second.expires_at == second.created_at + 3600
        assert await client.files.retrieve(first.id) == first
        assert (await client.files.content(first.id)).content == b'{"a":1}\n'
        assert [file.id async for file in client.files.list()] == [second.id, first.id]
        assert [file.id async for file in client.files.list(order="asc", limit=1)] == [first.id, second.id]
        assert [file.id async for file in client.files.list(purpose="batch")] == [first.id]
        assert (await client.files.delete(first.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.files.content(first.id)
    records = made.records()
    assert {record["protocol"] for record in records} == {"files"}
    assert {record["project_id"] for record in records} == {"proj_1"}
    assert records[0]["request_bytes"] > 8
    assert [record["status"] for record in records][-3:] == [200, 404, 404]


async def test_a_key_of_the_project_sees_the_file_and_another_projects_key_does_not(rig: MakeRig) -> None:
    made = await rig()
    async with _client(made) as client:
        file = await client.files.create(file=("a", b"secret"), purpose="user_data")
    async with _client(made, "sibling") as sibling:
        assert (await sibling.files.content(file.id)).content == b"secret"
    async with _client(made, "stranger") as stranger:
        for call in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
            with pytest.raises(openai.NotFoundError):
                await call(file.id)
        assert [found async for found in stranger.files.list()] == []


async def test_a_large_file_is_streamed_both_ways(rig: MakeRig) -> None:
    made = await rig(max_body_bytes=1024 * 1024)
    block = bytes(range(256)) * 4096
    async with _client(made) as client:
        file = await client.files.create(file=("big", block * 12), purpose="user_data")
        assert file.bytes == 12 * 1024 * 1024
        assert (await client.files.content(file.id)).content == block * 12
    assert made.records()[-1]["response_bytes"] == file.bytes


async def test_a_file_over_the_limit_is_413_and_leaves_nothing(rig: MakeRig) -> None:
    made = await rig(max_file_bytes=100_000)
    async with _client(made) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.files.create(file=("big", b"x" * 100_001), purpose="user_data")
    assert caught.value.status_code == 413
    assert "100000" in str(caught.value)
    assert not [path for path in (made.home.path / "objects").rglob("*") if path.is_file()]


async def test_what_is_wrong_with_an_upload_is_named(rig: MakeRig) -> None:
    made = await rig()
    file = {"file": ("a", b"x")}
    async with made.client() as client:
        answers: list[httpx.Response] = [
            await client.post("/v1/files", files=file, data={"purpose": "nonsense"}),
            await client.post("/v1/files", files=file),
            await client.post("/v1/files", data={"purpose": "batch"}, files={"other": ("a", b"x")}),
            await client.post("/v1/files", json={"purpose": "batch"}),
            await client.post(
                "/v1/files", files=file, data={"purpose": "batch", "expires_after[seconds]": "5"}
            ),
            await client.post(
                "/v1/files",
                content=b"--b\r\nrubbish",
                headers={"content-type": "multipart/form-data; boundary=b"},
            ),
            await client.get("/v1/files", params={"limit": "0"}),
            await client.get("/v1/files/..%2f..%2fsecrets"),
            await client.put("/v1/files"),
        ]
    told = [(answer.status_code, answer.json()["error"]["param"]) for answer in answers]
    assert told == [
        (400, "purpose"), (400, "purpose"), (400, "file"), (415, None), (400, "expires_after.anchor"), (400, None),
        (400, "limit"), (404, None), (405, None),
    ]  # fmt: skip
    assert {record["protocol"] for record in made.records()} == {
        "files",
        "unknown",
    }  # the path with slashes in it
    assert not [path for path in (made.home.path / "objects").rglob("*") if path.is_file()]


async def test_a_body_that_stops_half_way_is_no_file(rig: MakeRig) -> None:
    made = await rig()
    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nsome data'
    async with made.client() as client:
        answer = await client.post(
            "/v1/files", content=head, headers={"content-type": "multipart/form-data; boundary=b"}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_body")
    assert not [path for path in (made.home.path / "objects").rglob("*") if path.is_file()]


async def test_the_sweep_deletes_what_is_expired_and_nothing_else(tmp_path: Path) -> None:
    objects = Objects.open(Settings(home=tmp_path))
    files = Files(objects, max_file_bytes=1000, silence_s=1)

    async def content() -> AsyncIterator[bytes]:
        yield b"x"

    kept = await files.write("proj_1", content(), filename="a", purpose="user_data")
    gone = await files.write(
        "proj_1", content(), filename="b", purpose="user_data", expires_at=int(time.time()) - 1
    )
    await objects.put("projects/proj_1/files/file-young/content", b"an upload that is still under way")
    assert await files.sweep() == 1
    names = [name for name, _ in await objects.listing("projects")]
    assert names == [
        f"projects/proj_1/files/{kept.id}.json", f"projects/proj_1/files/{kept.id}/content",
        "projects/proj_1/files/file-young/content",
    ]  # fmt: skip
    assert gone.expired(time.time())
    assert msgspec.json.encode(kept)
