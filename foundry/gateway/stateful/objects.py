"""The object store behind files, batches and stored responses: a folder by default, S3 and its kin in production.

`Objects` is the store, `Shelf` the part of it that belongs to one project: callers' requests only ever see a shelf, so that
nothing can be read across projects. What it does not know: what is kept (`files.py`, `batches/`, `responses.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from foundry.errors import ConfigurationError, ObjectStoreUnavailable
from foundry.settings import Settings

PART_BYTES = 5 * 1024 * 1024
"""Objects are written in parts of this size (S3's least), at most two of one upload at a time: 15 MiB of memory each."""
_PARTS_AT_ONCE = 2
_CHUNK_BYTES = 256 * 1024
_READS_AT_ONCE = 16
_RETRY_AFTER_S = 5.0
_SETTLE_S = 0.1
"""obstore's threads let go of Python's objects some milliseconds after their last call; an interpreter that ends before that
aborts (seen with obstore 0.12 on 3.11: two runs in three; none in 36 with 20 ms of rest)."""
_SEGMENT = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


def is_id(text: str) -> bool:
    """Whether a caller's text may be one of our ids, and so part of an object's name."""
    return _SEGMENT.fullmatch(text) is not None


class Objects:
    """The whole store. Every method raises ObjectStoreUnavailable when the store does not do its part."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def open(cls, settings: Settings) -> Objects:
        """The store that `gateway.object_store_url` names; None: the folder `objects` of FOUNDRY_HOME. Raises
        ConfigurationError for an URL that no store can be made of."""
        url = settings.gateway.object_store_url
        if url is None:
            return cls(LocalStore(settings.home / "objects", mkdir=True, automatic_cleanup=True))
        try:
            return cls(from_url(url))
        except (BaseError, ValueError) as error:
            raise ConfigurationError(
                f"gateway.object_store_url '{url}' names no object store: {_first_line(error)}",
                param="gateway.object_store_url",
            ) from error

    async def aclose(self) -> None:
        """After the last call, before the process ends."""
        await asyncio.sleep(_SETTLE_S)

    def shelf(self, project_id: str, kind: str) -> Shelf:
        """The objects of one kind (`files`, `batches`, `responses`) of one project."""
        return Shelf(self, f"projects/{project_id or 'none'}/{kind}")

    async def get(self, name: str) -> bytes | None:
        """A whole object; None when there is none."""
        with _told():
            try:
                found = await obstore.get_async(self._store, name)
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def get_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Many small objects, a few at a time, in the order asked for."""
        slots = asyncio.Semaphore(_READS_AT_ONCE)

        async def one(name: str) -> bytes | None:
            async with slots:
                return await self.get(name)

        return await asyncio.gather(*(one(name) for name in names))

    async def stream(self, name: str) -> AsyncIterator[bytes] | None:
        """An object in chunks; None when there is none."""
        with _told():
            try:
                found = await obstore.get_async(self._store, name)
            except FileNotFoundError:
                return None
        return _chunks(found)

    async def put(self, name: str, data: bytes) -> None:
        """Write a whole object, over what was there."""
        with _told():
            await obstore.put_async(self._store, name, data)

    async def create(self, name: str, data: bytes) -> bool:
        """Write a whole object unless it exists: of all replicas that try, one is told True."""
        with _told():
            try:
                await obstore.put_async(self._store, name, data, mode="create")
            except AlreadyExistsError:
                return False
        return True

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Write an object as it comes; when `chunks` raises, nothing is left and the error comes out as it is."""
        with _told():
            await obstore.put_async(
                self._store, name, chunks, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )

    async def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        with _told():
            try:
                await obstore.delete_async(self._store, name)
            except FileNotFoundError:
                return

    async def delete_tree(self, prefix: str) -> None:
        """Delete every object below a prefix."""
        for name, _ in await self.listing(prefix):
            await self.delete(name)

    async def listing(self, prefix: str) -> list[tuple[str, datetime]]:
        """Names and times of change of all objects below a prefix, sorted by name."""
        found: list[tuple[str, datetime]] = []
        with _told():
            async for page in obstore.list(self._store, prefix, chunk_size=1000):
                found += [(item["path"], item["last_modified"]) for item in page]
        return sorted(found)

    async def folders(self, prefix: str) -> list[str]:
        """The last parts of the names of the folders directly below a prefix, sorted."""
        with _told():
            result = await obstore.list_with_delimiter_async(self._store, prefix)
        return sorted(path.rpartition("/")[2] for path in result["common_prefixes"])


class Shelf:
    """One project's objects of one kind; names are relative to it."""

    __slots__ = ("_objects", "_prefix")

    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix

    async def get(self, name: str) -> bytes | None:
        """A whole object; None when there is none."""
        return await self._objects.get(f"{self._prefix}/{name}")

    async def get_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Many small objects, in the order asked for."""
        return await self._objects.get_all([f"{self._prefix}/{name}" for name in names])

    async def stream(self, name: str) -> AsyncIterator[bytes] | None:
        """An object in chunks; None when there is none."""
        return await self._objects.stream(f"{self._prefix}/{name}")

    async def put(self, name: str, data: bytes) -> None:
        """Write a whole object, over what was there."""
        await self._objects.put(f"{self._prefix}/{name}", data)

    async def create(self, name: str, data: bytes) -> bool:
        """Write a whole object unless it exists."""
        return await self._objects.create(f"{self._prefix}/{name}", data)

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Write an object as it comes."""
        await self._objects.put_stream(f"{self._prefix}/{name}", chunks)

    async def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        await self._objects.delete(f"{self._prefix}/{name}")

    async def delete_tree(self, prefix: str) -> None:
        """Delete every object below a prefix."""
        await self._objects.delete_tree(f"{self._prefix}/{prefix}")

    async def names(self, prefix: str = "") -> list[str]:
        """The names below a prefix ("": all of the shelf's), without it, sorted."""
        full = f"{self._prefix}/{prefix}".rstrip("/")
        return [name[len(full) + 1 :] for name, _ in await self._objects.listing(full)]


async def _chunks(found: obstore.GetResult) -> AsyncIterator[bytes]:
    with _told():
        async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
            yield chunk


@contextmanager
def _told() -> Generator[None]:
    """The store's own errors as ours, in their first line: the rest is Rust's debugging output."""
    try:
        yield
    except BaseError as error:
        raise ObjectStoreUnavailable(
            f"the object store did not do its part: {_first_line(error)}", retry_after_s=_RETRY_AFTER_S
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
