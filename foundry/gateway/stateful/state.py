"""Everything of a gateway replica that has a memory, put together: files, batches with their runner,
stored responses, and the sweep.

What it does not know: how a request reaches it (`gateway/app.py`).
"""

from __future__ import annotations

import asyncio

import structlog

from foundry.errors import FoundryError
from foundry.gateway.delivery import Delivery
from foundry.gateway.inner import Inner
from foundry.gateway.stateful.batches.asking import Asker, Busy
from foundry.gateway.stateful.batches.endpoints import BatchEndpoints
from foundry.gateway.stateful.batches.execution import Execution
from foundry.gateway.stateful.batches.folder import Batches, BatchFolder
from foundry.gateway.stateful.batches.runner import BatchRunner
from foundry.gateway.stateful.files import Files
from foundry.gateway.stateful.objects import Objects
from foundry.gateway.stateful.responses.background import Background
from foundry.gateway.stateful.responses.endpoints import ResponseEndpoints
from foundry.gateway.stateful.responses.entry import ResponsesEntry
from foundry.gateway.stateful.responses.store import Responses
from foundry.gateway.stateful.responses.turns import Turns
from foundry.settings import Settings
from foundry.types.batch import Batch, BatchOwner

log = structlog.get_logger()


class State:
    """One per replica. `endpoints` serve requests; `run_batches` and `sweep` run in the background."""

    def __init__(self, settings: Settings, inner: Inner, delivery: Delivery, busy: Busy) -> None:
        gateway = settings.gateway
        objects = self.objects = Objects.open(settings)
        self._gateway = gateway
        self.files = Files(objects, max_file_bytes=gateway.max_file_bytes, silence_s=gateway.body_timeout_s)
        self._asker = Asker(inner, per_route=gateway.batch_concurrency, busy=busy)
        batches = Batches(objects)
        self.runner = BatchRunner(
            batches,
            self._execution,
            at_once=gateway.batches_at_once,
            poll_s=gateway.batch_poll_s,
            lease_s=gateway.batch_lease_s,
        )
        self.batches = BatchEndpoints(batches, self.files, self.runner.wake)
        stored = Responses(objects, retention_s=gateway.response_retention_s)
        self._stored = stored
        self.background = Background(stored, inner, most=gateway.background_responses)
        self.responses = ResponseEndpoints(stored, self.background)
        self.responses_entry = ResponsesEntry(Turns(stored), self.background, delivery)

    def _execution(self, folder: BatchFolder, batch: Batch, owner: BatchOwner, generation: int) -> Execution:
        return Execution(
            folder,
            batch,
            owner,
            generation,
            files=self.files,
            asker=self._asker,
            concurrency=self._gateway.batch_concurrency,
            max_line_bytes=self._gateway.max_body_bytes,
        )

    async def sweep(self) -> None:
        """Delete what is over, again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._gateway.state_sweep_s)
            try:
                files, responses = await self.files.sweep(), await self._stored.sweep()
                log.info("state_swept", files=files, responses=responses)
            except FoundryError as error:
                log.warning("state_sweep_failed", reason=error.message)
