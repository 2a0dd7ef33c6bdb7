"""The background task of a gateway replica that runs batches: finds open ones, claims them, keeps the claim, hands it on.

A holder changes its lease's beat; a beat that another replica sees unchanged for `lease_s` by its own clock is a dead one's, and
the batch is claimed anew: no two machines need agree on the time. A holder that cannot write its beat for as long stops by
itself. What it does not know: what running a batch is (`execution.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from secrets import token_hex

import msgspec
import structlog

from foundry.errors import FoundryError
from foundry.gateway.stateful.batches.execution import Execution
from foundry.gateway.stateful.batches.folder import RELEASED, Batches, BatchFolder
from foundry.types.batch import ENDED, Batch, BatchOwner

log = structlog.get_logger()

_CANCEL_CHECK_S = 2.0
MakeExecution = Callable[[BatchFolder, Batch, BatchOwner, int], Execution]


class _Held:
    """A batch that this replica runs."""

    def __init__(self, folder: BatchFolder, generation: int, execution: Execution, lease_s: float) -> None:
        self.folder = folder
        self.generation = generation
        self.execution = execution
        self._lease_s = lease_s
        self._beaten_at = time.monotonic()

    async def keep(self) -> None:
        """Beat and look for a cancellation until cancelled, or until the claim is lost: then the execution is stopped."""
        pause_s, next_beat = min(_CANCEL_CHECK_S, self._lease_s / 4), 0.0
        while True:
            await asyncio.sleep(pause_s)
            try:
                if await self.folder.cancelled_at() is not None:
                    self.execution.cancel()
                if time.monotonic() >= next_beat:
                    await self._beat()
                    next_beat = time.monotonic() + self._lease_s / 3
            except FoundryError as error:
                log.warning("batch_beat_failed", batch_id=self.folder.batch_id, reason=error.message)
            if time.monotonic() - self._beaten_at > self._lease_s:
                log.warning("batch_lease_lost", batch_id=self.folder.batch_id, generation=self.generation)
                self.execution.stop()
                return

    async def _beat(self) -> None:
        newest, _ = await self.folder.lease()
        if newest > self.generation:
            self._beaten_at = -self._lease_s  # another replica took it over
            return
        await self.folder.beat(self.generation, token_hex(8).encode())
        self._beaten_at = time.monotonic()


class BatchRunner:
    """One per gateway replica.

    at_once: batches that it runs at a time. poll_s: how often it looks for open ones. lease_s: how long a silent holder is
    believed to live.
    """

    def __init__(
        self, batches: Batches, make: MakeExecution, *, at_once: int, poll_s: float, lease_s: float
    ) -> None:
        self._batches = batches
        self._make = make
        self._at_once = at_once
        self._poll_s = poll_s
        self._lease_s = lease_s
        self._wake = asyncio.Event()
        self._held: dict[str, tuple[_Held, asyncio.Task[None]]] = {}
        self._seen: dict[str, tuple[int, bytes, float]] = {}

    def wake(self) -> None:
        """A batch was added: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Look for batches until cancelled; then stop what runs and let go of it."""
        try:
            while True:
                try:
                    await self._scan()
                except (FoundryError, msgspec.DecodeError) as error:
                    log.warning("batch_scan_failed", reason=str(error))
                await self._pause()
        finally:
            await self._let_go()

    async def _pause(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(min(self._poll_s, self._lease_s)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _scan(self) -> None:
        if len(self._held) >= self._at_once:
            return
        found = await self._batches.open()
        for gone in self._seen.keys() - {folder.batch_id for folder in found}:
            del self._seen[gone]
        for folder in found:
            if len(self._held) >= self._at_once:
                return
            if folder.batch_id not in self._held:
                await self._claim(folder)

    async def _claim(self, folder: BatchFolder) -> None:
        generation, beat = await folder.lease()
        if beat != RELEASED and not self._is_dead(folder.batch_id, generation, beat):
            return
        if not await folder.claim(generation + 1, token_hex(8).encode()):
            return
        batch, owner = await folder.stored(), await folder.owner()
        if batch is None or owner is None:
            await self._batches.done(folder.batch_id)
            return
        log.info("batch_claimed", batch_id=batch.id, generation=generation + 1, status=batch.status)
        execution = self._make(folder, batch, owner, generation + 1)
        held = _Held(folder, generation + 1, execution, self._lease_s)
        task = asyncio.create_task(self._run(held), name=batch.id)
        self._held[batch.id] = held, task

    def _is_dead(self, batch_id: str, generation: int, beat: bytes) -> bool:
        now = time.monotonic()
        seen = self._seen.get(batch_id)
        if seen is None or seen[:2] != (generation, beat):
            self._seen[batch_id] = generation, beat, now
            return False
        return now - seen[2] > self._lease_s

    async def _run(self, held: _Held) -> None:
        keeper = asyncio.create_task(held.keep(), name=f"{held.folder.batch_id}-lease")
        try:
            await held.execution.run()
            keeper.cancel()
            if held.execution.batch.status in ENDED:
                await held.folder.tidy()
                await self._batches.done(held.folder.batch_id)
                log.info("batch_ended", batch_id=held.folder.batch_id, status=held.execution.batch.status)
            else:
                await held.folder.beat(held.generation, RELEASED)
        except FoundryError as error:
            log.warning("batch_interrupted", batch_id=held.folder.batch_id, reason=error.message)
        finally:
            keeper.cancel()
            self._held.pop(held.folder.batch_id, None)

    async def _let_go(self) -> None:
        tasks = [task for _, task in self._held.values()]
        for held, _ in list(self._held.values()):
            held.execution.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
