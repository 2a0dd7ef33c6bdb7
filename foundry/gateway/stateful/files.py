"""Files: `/v1/files` as OpenAI has it, and the same for batches, which read and write them.

A file is two objects: `<id>/content`, and `<id>.json`, which is written last and makes the file exist. What it does not
know: HTTP servers, keys, records (`desk.py`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import msgspec

from foundry.errors import InvalidParameter, NotFound
from foundry.gateway.stateful.edge import Asked, Paging, Reply, listing, reply_json
from foundry.gateway.stateful.objects import Objects, Shelf, is_id
from foundry.gateway.stateful.upload import Upload
from foundry.telemetry import new_id
from foundry.types.files import MAX_EXPIRY_S, MIN_EXPIRY_S, UPLOAD_PURPOSES, FileObject, FilePurpose

_MAX_PAGE = 10_000
_ORPHAN_S = 24 * 3600.0
"""Content this old without its description was left by an upload that died."""
_decoder = msgspec.json.Decoder(FileObject)
_encoder = msgspec.json.Encoder()
_purpose = msgspec.json.Decoder(FilePurpose)


class Files:
    """The files of all projects. Every call raises ObjectStoreUnavailable when the store is away."""

    def __init__(self, objects: Objects, *, max_file_bytes: int, silence_s: float) -> None:
        self._objects = objects
        self._max_file_bytes = max_file_bytes
        self._silence_s = silence_s

    def _shelf(self, project_id: str) -> Shelf:
        return self._objects.shelf(project_id, "files")

    async def find(self, project_id: str, file_id: str) -> FileObject:
        """What is known of one file. Raises NotFound when it does not exist, is expired, or belongs to another project."""
        data = await self._shelf(project_id).get(f"{file_id}.json") if is_id(file_id) else None
        file = _decoder.decode(data) if data else None
        if file is None or file.expired(time.time()):
            raise NotFound(f"No such File object: {file_id[:128]}", param="file_id")
        return file

    async def content(self, project_id: str, file_id: str) -> AsyncIterator[bytes]:
        """A file's bytes. Raises NotFound."""
        chunks = await self._shelf(project_id).stream(f"{file_id}/content")
        if chunks is None:
            raise NotFound(f"No such File object: {file_id}", param="file_id")
        return chunks

    async def write(
        self,
        project_id: str,
        chunks: AsyncIterator[bytes],
        *,
        filename: str,
        purpose: FilePurpose,
        expires_at: int | None = None,
        file_id: str | None = None,
    ) -> FileObject:
        """Keep a file made by us; one that is written again under its id is the same file."""
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                yield chunk

        made = file_id or new_file_id()
        await self._shelf(project_id).put_stream(f"{made}/content", counted())
        file = FileObject(
            id=made,
            bytes=size,
            created_at=int(time.time()),
            expires_at=expires_at,
            filename=filename,
            purpose=purpose,
        )
        await self._shelf(project_id).put(f"{made}.json", _encoder.encode(file))
        return file

    async def delete(self, project_id: str, file_id: str) -> None:
        """Delete one file: first its description, so that it is gone at once."""
        shelf = self._shelf(project_id)
        await shelf.delete(f"{file_id}.json")
        await shelf.delete(f"{file_id}/content")

    async def sweep(self) -> int:
        """Delete what is expired, in all projects, and content that an interrupted upload left; returns how many."""
        swept = 0
        for project_id in await self._objects.folders("projects"):
            prefix = f"projects/{project_id}/files"
            names = dict(await self._objects.listing(prefix))
            swept += await self._sweep(prefix, names)
        return swept

    async def _sweep(self, prefix: str, names: dict[str, datetime]) -> int:
        swept, now = 0, datetime.now(UTC)
        descriptions = [name for name in names if name.endswith(".json")]
        for name, data in zip(descriptions, await self._objects.get_all(descriptions), strict=True):
            if data is not None and _decoder.decode(data).expired(now.timestamp()):
                await self._objects.delete(name)
                await self._objects.delete(name.removesuffix(".json") + "/content")
                swept += 1
        for name, changed in names.items():
            described = f"{name.removesuffix('/content')}.json" in names
            old = (now - changed).total_seconds() > _ORPHAN_S
            if name.endswith("/content") and old and not described:
                await self._objects.delete(name)
                swept += 1
        return swept

    async def upload(self, asked: Asked) -> Reply:
        """`POST /v1/files`."""
        upload = Upload(
            asked.receive,
            asked.headers.get(b"content-type", b"").decode("latin-1"),
            max_file_bytes=self._max_file_bytes,
            silence_s=self._silence_s,
        )
        file_id, shelf = new_file_id(), self._shelf(asked.project_id)
        try:
            await upload.begin()
            await shelf.put_stream(f"{file_id}/content", upload.file())
        finally:
            asked.exchange.request_bytes = upload.received_bytes
        try:
            file = _described(file_id, upload)
        except InvalidParameter:
            await shelf.delete(f"{file_id}/content")
            raise
        data = _encoder.encode(file)
        await shelf.put(f"{file_id}.json", data)
        return Reply(data)

    async def list(self, asked: Asked) -> Reply:
        """`GET /v1/files?after=&limit=&order=&purpose=`."""
        paging = Paging.of(asked.query, default=_MAX_PAGE, most=_MAX_PAGE)
        purpose, shelf, now_s = asked.query.get("purpose"), self._shelf(asked.project_id), time.time()

        async def load(ids: Sequence[str]) -> list[FileObject | None]:
            found = await shelf.get_all([f"{file_id}.json" for file_id in ids])
            return [_decoder.decode(data) if data else None for data in found]

        def wanted(file: FileObject) -> bool:
            return not file.expired(now_s) and (purpose is None or file.purpose == purpose)

        ids = [name.removesuffix(".json") for name in await shelf.names() if name.endswith(".json")]
        files, has_more = await paging.fill(ids, load, wanted)
        return listing(files, [file.id for file in files], has_more=has_more)

    async def get(self, asked: Asked) -> Reply:
        """`GET /v1/files/{id}`."""
        return reply_json(await self.find(asked.project_id, asked.id))

    async def get_content(self, asked: Asked) -> Reply:
        """`GET /v1/files/{id}/content`."""
        file = await self.find(asked.project_id, asked.id)
        chunks = await self.content(asked.project_id, asked.id)
        return Reply(chunks, "application/octet-stream", length=file.bytes)

    async def remove(self, asked: Asked) -> Reply:
        """`DELETE /v1/files/{id}`."""
        file = await self.find(asked.project_id, asked.id)
        await self.delete(asked.project_id, file.id)
        return reply_json({"id": file.id, "object": "file", "deleted": True})


def new_file_id() -> str:
    """A fresh id that sorts by creation time and looks like OpenAI's."""
    return new_id("file").replace("_", "-")


def _described(file_id: str, upload: Upload) -> FileObject:
    """Raises InvalidParameter when the fields beside the file are not right."""
    purpose = upload.fields.get("purpose", "")
    if purpose not in UPLOAD_PURPOSES:
        raise InvalidParameter(
            f"'purpose' is '{purpose[:40]}': it must be one of {', '.join(UPLOAD_PURPOSES)}", param="purpose"
        )
    now = int(time.time())
    return FileObject(
        id=file_id,
        bytes=upload.file_bytes,
        created_at=now,
        expires_at=_expires_at(upload.fields, now),
        filename=upload.filename,
        purpose=_purpose.decode(_encoder.encode(purpose)),
    )


def _expires_at(fields: dict[str, str], now: int) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidParameter("'expires_after[anchor]' must be 'created_at'", param="expires_after.anchor")
    if not (
        seconds and seconds.isascii() and seconds.isdigit() and MIN_EXPIRY_S <= int(seconds) <= MAX_EXPIRY_S
    ):
        raise InvalidParameter(
            f"'expires_after[seconds]' must be a number from {MIN_EXPIRY_S} to {MAX_EXPIRY_S}",
            param="expires_after.seconds",
        )
    return now + int(seconds)
