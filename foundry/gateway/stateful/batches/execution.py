"""One batch, carried on by the replica that holds it: validate, run the lines that are not done, make the files.

It can be cut off anywhere and carried on by another replica. A line is finished when its result is durable in a part; at most
`2 x concurrency` lines are begun and not finished at any time, and only those can run twice, under the same request id. What it
does not know: how the batch was claimed (`runner.py`).
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from foundry.codecs import CODECS
from foundry.errors import NotFound, ObjectStoreUnavailable
from foundry.gateway.stateful.batches.asking import Asker
from foundry.gateway.stateful.batches.folder import BatchFolder
from foundry.gateway.stateful.batches.harvest import Harvest
from foundry.gateway.stateful.batches.lines import Check, InputLines
from foundry.gateway.stateful.batches.tally import Tally
from foundry.gateway.stateful.files import Files
from foundry.types.batch import ENDED, Batch, BatchErrors, BatchLine, BatchOwner, LineError, LineResult

log = structlog.get_logger()

_GATHER_S = 0.25
"""Results wait this long for others, to be written in one part."""
_SAVE_S = 1.0
"""The counts that callers see are at most this old while results come."""
_STORE_PAUSE_S = 1.0
CANCEL_GRACE_S = 60.0
"""Requests in flight when their batch is cancelled may take this long to end; then they are dropped."""


class Execution:
    """One batch under one generation of its lease. Ends by itself, or early by `cancel` or `stop`."""

    def __init__(
        self,
        folder: BatchFolder,
        batch: Batch,
        owner: BatchOwner,
        generation: int,
        *,
        files: Files,
        asker: Asker,
        concurrency: int,
        max_line_bytes: int,
    ) -> None:
        self.batch = batch
        self._folder = folder
        self._owner = owner
        self._generation = generation
        self._files = files
        self._asker = asker
        self._concurrency = concurrency
        self._input = InputLines(files, owner.project_id, batch, max_line_bytes)
        self._tally = Tally()
        self._halt = asyncio.Event()
        """No more lines are begun, none is tried again."""
        self._stopped = False
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(2 * concurrency)
        self._waiting: list[LineResult] = []
        self._arrived = asyncio.Event()
        self._closing = False
        self._parts = 0
        self._saved_at = 0.0

    def cancel(self) -> None:
        """The caller wants it to end: requests in flight may finish within a minute, no others are begun."""
        if not self._halt.is_set():
            self._halt.set()
            asyncio.get_running_loop().call_later(CANCEL_GRACE_S, self._drop)

    def stop(self) -> None:
        """This replica may or can not go on: requests in flight are dropped, another replica will carry on."""
        self._stopped = True
        self._drop()

    async def run(self) -> None:
        """Carry the batch on. Raises ObjectStoreUnavailable."""
        try:
            if self.batch.status == "validating" and not await self._validate():
                return
            if self.batch.status in ENDED:
                return  # its last holder died between the end and the tidying
            async for result in self._folder.results():
                self._tally.add(result)
            if self.batch.status != "finalizing":
                await self._run_lines()
            if not self._stopped:
                await self._finalize()
        except NotFound:
            error = LineError(code="input_file_missing", message="the input file was deleted")
            await self._save(status="failed", failed_at=_now(), errors=BatchErrors(data=(error,)))

    async def _validate(self) -> bool:
        check = Check(self.batch.endpoint)
        async for number, line in self._input.raw():
            if self._stopped:
                return False
            if not check.add(number, line):
                break
        check.end()
        if check.errors:
            errors = BatchErrors(data=tuple(check.errors))
            await self._save(status="failed", failed_at=_now(), errors=errors)
            return False
        counts = self._tally.counts(check.total)
        await self._save(
            status="in_progress", in_progress_at=_now(), request_counts=counts, model=check.model
        )
        return True

    async def _run_lines(self) -> None:
        if await self._folder.cancelled_at() is not None:
            self._halt.set()
        writer = asyncio.create_task(self._write(), name=f"{self.batch.id}-writer")
        writer.add_done_callback(lambda _: self._drop())  # it only ends by itself when it failed
        left_s = max(0.0, self.batch.expires_at - time.time())
        timer = asyncio.get_running_loop().call_later(left_s, self._drop)
        try:
            await self._begin_all()
            while self._running:
                await asyncio.wait(self._running)
        finally:
            timer.cancel()
            self._drop()
            await asyncio.gather(*self._running, return_exceptions=True)
            self._closing = True
            self._arrived.set()
            await writer

    def _drop(self) -> None:
        self._halt.set()
        self._room.release()  # for whoever waits to begin a line: it sees the halt
        for task in self._running:
            task.cancel()

    async def _begin_all(self) -> None:
        async for line in self._input.lines(self._tally.numbers):
            await self._room.acquire()
            if self._halt.is_set():
                return
            task = asyncio.create_task(self._run_line(line))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run_line(self, line: BatchLine) -> None:
        result: LineResult | None = None
        try:
            codec = CODECS[self.batch.endpoint]
            result = await self._asker.ask(codec, self.batch.id, line, self._owner.key_hash, self._halt)
        finally:
            if result is None:
                self._room.release()
        if result is not None:
            self._waiting.append(result)
            self._arrived.set()

    async def _write(self) -> None:
        """Make results durable as they come, several at once."""
        while self._waiting or not self._closing:
            await self._arrived.wait()
            if len(self._waiting) < self._concurrency and not self._closing:
                await asyncio.sleep(_GATHER_S)
            self._arrived.clear()
            if self._waiting:
                await self._flush()

    async def _flush(self) -> None:
        results, self._waiting = self._waiting, []
        while True:
            try:
                await self._folder.add_part(self._generation, self._parts, results)
                break
            except ObjectStoreUnavailable as error:
                if self._stopped:
                    raise
                log.warning("batch_part_waits", batch_id=self.batch.id, reason=error.message)
                await asyncio.sleep(_STORE_PAUSE_S)
        self._parts += 1
        for result in results:
            self._tally.add(result)
            self._room.release()
        if time.monotonic() - self._saved_at > _SAVE_S:
            self._saved_at = time.monotonic()
            await self._save_counts()

    async def _save_counts(self) -> None:
        try:
            counts = self._tally.counts(self.batch.request_counts.total)
            await self._save(request_counts=counts, usage=self._tally.usage())
        except ObjectStoreUnavailable as error:
            log.warning("batch_counts_wait", batch_id=self.batch.id, reason=error.message)

    async def _finalize(self) -> None:
        cancelled_at = await self._folder.cancelled_at()
        await self._save(status="finalizing", finalizing_at=_now(), cancelling_at=cancelled_at)
        harvest = Harvest(self._folder, self._files, self._owner, self._input, self.batch)
        everything = len(self._tally.numbers) >= self.batch.request_counts.total
        expired = not everything and cancelled_at is None
        output, error = await harvest.gather(self._tally, expired=expired)
        ended: dict[str, object] = {"status": "completed", "completed_at": _now()}
        if cancelled_at is not None:
            ended = {"status": "cancelled", "cancelled_at": _now()}
        elif expired:
            ended = {"status": "expired", "expired_at": _now()}
        counts = self._tally.counts(self.batch.request_counts.total)
        usage = self._tally.usage()
        await self._save(
            **ended, output_file_id=output, error_file_id=error, request_counts=counts, usage=usage
        )

    async def _save(self, **changes: object) -> None:
        self.batch = msgspec.structs.replace(self.batch, **changes)
        await self._folder.save(self.batch, self._generation)


def _now() -> int:
    return int(time.time())
