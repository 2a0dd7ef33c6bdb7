"""The object store: what is written is read, one creator wins, a write that fails leaves nothing, errors are ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from obstore.store import LocalStore

from foundry.errors import ConfigurationError, ObjectStoreUnavailable
from foundry.gateway.stateful.objects import PART_BYTES, Objects, is_id
from foundry.settings import GatewaySettings, Settings


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects.open(Settings(home=tmp_path))


async def _pieces(*pieces: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if error is not None:
        raise error


async def test_what_is_written_is_read(objects: Objects) -> None:
    shelf = objects.shelf("proj_1", "files")
    await shelf.put("a", b"one")
    await shelf.put_stream("b/content", _pieces(b"x" * 10, b"", b"y" * PART_BYTES, b"z"))
    assert await shelf.get("a") == b"one"
    assert await shelf.get("nothing") is None
    assert await shelf.stream("nothing") is None
    chunks = await shelf.stream("b/content")
    assert chunks is not None
    assert b"".join([chunk async for chunk in chunks]) == b"x" * 10 + b"y" * PART_BYTES + b"z"
    assert await shelf.names() == ["a", "b/content"]
    assert await shelf.get_all(["a", "nothing"]) == [b"one", None]
    await shelf.delete_tree("b")
    await shelf.delete("nothing")
    assert await shelf.names() == ["a"]


async def test_a_shelf_holds_one_project_only(objects: Objects) -> None:
    await objects.shelf("proj_1", "files").put("a", b"one")
    assert await objects.shelf("proj_2", "files").get("a") is None
    assert await objects.shelf("proj_2", "files").names() == []
    assert await objects.folders("projects") == ["proj_1"]


async def test_one_of_many_creators_wins(objects: Objects) -> None:
    shelf = objects.shelf("proj_1", "batches")
    won = await asyncio.gather(*(shelf.create("lease", str(i).encode()) for i in range(20)))
    assert won.count(True) == 1
    assert await shelf.get("lease") == str(won.index(True)).encode()


async def test_a_stream_that_fails_leaves_nothing_and_its_own_error(objects: Objects) -> None:
    shelf = objects.shelf("proj_1", "files")
    with pytest.raises(LookupError, match="mine"):
        await shelf.put_stream("a", _pieces(b"x" * (PART_BYTES + 1), error=LookupError("mine")))
    assert await shelf.names() == []


async def test_a_store_that_fails_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    objects = Objects(LocalStore(tmp_path))
    with pytest.raises(ObjectStoreUnavailable) as caught:
        await objects.put("file/below", b"x")
    assert "\n" not in caught.value.message
    assert caught.value.retry_after_s is not None


async def test_a_url_that_names_no_store_is_a_configuration_error(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, gateway=GatewaySettings(object_store_url="ftp://nowhere/x"))
    with pytest.raises(ConfigurationError, match="ftp://nowhere/x"):
        Objects.open(settings)


@pytest.mark.parametrize(
    ("text", "good"), [("file-0a", True), ("", False), ("a/b", False), ("..", False), ("é", False)]
)
def test_ids(text: str, good: bool) -> None:
    assert is_id(text) is good
