"""`/v1/batches`: create, get, list, cancel.

What it does not know: who runs a batch (`runner.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from foundry.codecs import CODECS
from foundry.errors import Conflict, InvalidParameter, NotFound
from foundry.gateway.stateful.batches.folder import Batches, BatchFolder
from foundry.gateway.stateful.edge import Asked, Paging, Reply, decode, listing, reply_json
from foundry.gateway.stateful.files import Files
from foundry.telemetry import new_id
from foundry.types.batch import (
    BATCHED_PROTOCOLS,
    ENDED,
    MAX_INPUT_BYTES,
    WINDOW_S,
    Batch,
    BatchOwner,
    BatchStatus,
)
from foundry.types.files import MAX_EXPIRY_S, MIN_EXPIRY_S

_PAGE, _MAX_PAGE = 20, 100
_MAX_METADATA = 16


class _Expiry(msgspec.Struct):
    anchor: str
    seconds: int


class _Create(msgspec.Struct):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: _Expiry | None = None


_create = msgspec.json.Decoder(_Create)


class BatchEndpoints:
    """wake: tells this replica's runner that there is something to do."""

    def __init__(self, batches: Batches, files: Files, wake: Callable[[], None]) -> None:
        self._batches = batches
        self._files = files
        self._wake = wake

    async def create(self, asked: Asked) -> Reply:
        """`POST /v1/batches`."""
        told = decode(_create, await asked.body())
        expires_s = _check(told)
        file = await self._files.find(asked.project_id, told.input_file_id)
        if file.purpose != "batch":
            raise InvalidParameter(
                f"the file {file.id} has the purpose '{file.purpose}': upload it with the purpose 'batch'",
                param="input_file_id",
            )
        if file.bytes > MAX_INPUT_BYTES:
            raise InvalidParameter(
                f"the file {file.id} has {file.bytes} bytes, a batch reads at most {MAX_INPUT_BYTES}",
                param="input_file_id",
            )
        now = int(time.time())
        batch = Batch(
            id=new_id("batch"),
            endpoint=told.endpoint,
            input_file_id=file.id,
            status="validating",
            created_at=now,
            expires_at=now + WINDOW_S,
            metadata=told.metadata,
        )
        key = asked.key
        owner = BatchOwner(
            project_id=key.project_id, key_id=key.key_id, key_hash=key.key_hash, output_expires_s=expires_s
        )
        await self._batches.add(batch, owner)
        self._wake()
        return reply_json(batch)

    async def get(self, asked: Asked) -> Reply:
        """`GET /v1/batches/{id}`."""
        _, batch = await self._find(asked)
        return reply_json(batch)

    async def list(self, asked: Asked) -> Reply:
        """`GET /v1/batches?after=&limit=`, newest first."""
        paging = Paging.of(asked.query, default=_PAGE, most=_MAX_PAGE)

        async def load(ids: Sequence[str]) -> list[Batch | None]:
            return [await self._batches.folder(asked.project_id, batch_id).load() for batch_id in ids]

        ids = await self._batches.ids(asked.project_id)
        batches, has_more = await paging.fill(ids, load, lambda _: True)
        return listing(batches, [batch.id for batch in batches], has_more=has_more)

    async def cancel(self, asked: Asked) -> Reply:
        """`POST /v1/batches/{id}/cancel`."""
        folder, batch = await self._find(asked)
        if batch.status in ENDED or batch.status == "finalizing":
            raise Conflict(f"the batch {batch.id} is {batch.status}: it cannot be cancelled any more")
        now = int(time.time())
        await folder.cancel(now)
        cancelling: BatchStatus = "cancelling"
        since = batch.cancelling_at or now
        return reply_json(msgspec.structs.replace(batch, status=cancelling, cancelling_at=since))

    async def _find(self, asked: Asked) -> tuple[BatchFolder, Batch]:
        folder = self._batches.folder(asked.project_id, asked.id)
        batch = await folder.load()
        if batch is None:
            raise NotFound(f"No batch found with id '{asked.id[:128]}'.", param="batch_id")
        return folder, batch


def _check(told: _Create) -> int | None:
    """The seconds after which the output goes. Raises InvalidParameter."""
    codec = CODECS.get(told.endpoint)
    if codec is None or codec.name not in BATCHED_PROTOCOLS:
        served = ", ".join(path for path, codec in CODECS.items() if codec.name in BATCHED_PROTOCOLS)
        raise InvalidParameter(
            f"'endpoint' is '{told.endpoint[:80]}': it must be one of {served}", param="endpoint"
        )
    if told.completion_window != "24h":
        raise InvalidParameter(
            f"'completion_window' is '{told.completion_window[:20]}': it must be '24h'",
            param="completion_window",
        )
    if told.metadata is not None and len(told.metadata) > _MAX_METADATA:
        raise InvalidParameter(
            f"'metadata' has {len(told.metadata)} members, at most {_MAX_METADATA} are kept", param="metadata"
        )
    expiry = told.output_expires_after
    if expiry is None:
        return None
    if expiry.anchor != "created_at" or not MIN_EXPIRY_S <= expiry.seconds <= MAX_EXPIRY_S:
        raise InvalidParameter(
            f"'output_expires_after' must have the anchor 'created_at' and {MIN_EXPIRY_S} to {MAX_EXPIRY_S} seconds",
            param="output_expires_after",
        )
    return expiry.seconds
