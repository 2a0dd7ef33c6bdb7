"""A batch as objects in the store, written so that replicas which come and go cannot harm it.

    queue/<batch>                      exists while the batch is open; holds its project
    projects/<project>/batches/<batch>/
        owner.json                     on whose key it runs
        state/<generation>.json        the batch as its holder of that generation saw it; the highest counts
        lease/<generation>             claimed by being created; holds a beat that its holder changes
        parts/<generation>-<n>.jsonl   results of finished lines
        cancel                         somebody wants it to end; holds when

Claiming a batch creates the next generation, which only one replica can. A replica that lost its claim without noticing goes on
writing under its old generation, where nobody reads any more but for finished results, which count once per line. What it does
not know: how lines are run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from foundry.gateway.stateful.objects import Objects, is_id
from foundry.types.batch import ENDED, Batch, BatchOwner, BatchStatus, LineResult

_QUEUE = "queue"
RELEASED = b"released"
_batch = msgspec.json.Decoder(Batch)
_owner = msgspec.json.Decoder(BatchOwner)
_result = msgspec.json.Decoder(LineResult)
_encoder = msgspec.json.Encoder()


class Batches:
    """All batches of all projects."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def folder(self, project_id: str, batch_id: str) -> BatchFolder:
        """One batch's objects; it need not exist."""
        return BatchFolder(self._objects, project_id, batch_id)

    async def add(self, batch: Batch, owner: BatchOwner) -> None:
        """A new batch: it exists once its state is written, and is run once it is queued."""
        folder = self.folder(owner.project_id, batch.id)
        await folder.put("owner.json", _encoder.encode(owner))
        await folder.save(batch, 0)
        await self._objects.put(f"{_QUEUE}/{batch.id}", owner.project_id.encode())

    async def open(self) -> list[BatchFolder]:
        """The batches that are queued, oldest first."""
        names = [name for name, _ in await self._objects.listing(_QUEUE)]
        projects = await self._objects.get_all(names)
        return [
            self.folder(project.decode(), name.rpartition("/")[2])
            for name, project in zip(names, projects, strict=True)
            if project is not None
        ]

    async def done(self, batch_id: str) -> None:
        """Nobody needs to look at it any more."""
        await self._objects.delete(f"{_QUEUE}/{batch_id}")

    async def ids(self, project_id: str) -> list[str]:
        """All batches of a project, oldest first."""
        return await self._objects.folders(f"projects/{project_id}/batches")


class BatchFolder:
    """One batch's objects."""

    __slots__ = ("_shelf", "batch_id", "project_id")

    def __init__(self, objects: Objects, project_id: str, batch_id: str) -> None:
        self.project_id = project_id
        self.batch_id = batch_id
        self._shelf = objects.shelf(project_id, f"batches/{batch_id}")

    async def put(self, name: str, data: bytes) -> None:
        """Write one object."""
        await self._shelf.put(name, data)

    async def save(self, batch: Batch, generation: int) -> None:
        """The batch as the holder of this generation sees it."""
        await self._shelf.put(f"state/{generation:08d}.json", _encoder.encode(batch))

    async def stored(self) -> Batch | None:
        """The batch as its newest holder wrote it; None when there is none."""
        if not is_id(self.batch_id):
            return None
        names = await self._shelf.names("state")
        data = await self._shelf.get(f"state/{names[-1]}") if names else None
        return _batch.decode(data) if data else None

    async def load(self) -> Batch | None:
        """The batch as callers see it: a cancellation counts from when it was asked for."""
        batch = await self.stored()
        if batch is None or batch.status in ENDED:
            return batch
        cancel = await self.cancelled_at()
        return _cancelling(batch, cancel) if cancel is not None else batch

    async def owner(self) -> BatchOwner | None:
        """On whose key it runs."""
        data = await self._shelf.get("owner.json")
        return _owner.decode(data) if data else None

    async def cancel(self, now: int) -> None:
        """Ask its holder to end it; the first to ask is remembered."""
        await self._shelf.create("cancel", b"%d" % now)

    async def cancelled_at(self) -> int | None:
        """When somebody asked to cancel it."""
        data = await self._shelf.get("cancel")
        return int(data) if data else None

    async def lease(self) -> tuple[int, bytes]:
        """The newest generation (0: never claimed) and its holder's last beat."""
        names = await self._shelf.names("lease")
        if not names:
            return 0, RELEASED
        return int(names[-1]), await self._shelf.get(f"lease/{names[-1]}") or b""

    async def claim(self, generation: int, beat: bytes) -> bool:
        """Become the holder of a generation; False when another replica is."""
        return await self._shelf.create(f"lease/{generation:08d}", beat)

    async def beat(self, generation: int, beat: bytes) -> None:
        """Tell the others that the holder lives, or with RELEASED that it lets go."""
        await self._shelf.put(f"lease/{generation:08d}", beat)

    async def add_part(self, generation: int, number: int, results: Sequence[LineResult]) -> None:
        """Make finished lines durable."""
        await self._shelf.put(f"parts/{generation:08d}-{number:08d}.jsonl", _encoder.encode_lines(results))

    async def results(self) -> AsyncIterator[LineResult]:
        """All finished lines, each once, in the order in which they were written."""
        seen: set[int] = set()
        for name in await self._shelf.names("parts"):
            data = await self._shelf.get(f"parts/{name}")
            for line in (data or b"").splitlines():
                result = _result.decode(line)
                if result.number not in seen:
                    seen.add(result.number)
                    yield result

    async def tidy(self) -> None:
        """Drop what an ended batch does not need any more."""
        await self._shelf.delete_tree("parts")
        await self._shelf.delete_tree("lease")


def _cancelling(batch: Batch, since: int) -> Batch:
    status: BatchStatus = "cancelling"
    return msgspec.structs.replace(batch, status=status, cancelling_at=since)
