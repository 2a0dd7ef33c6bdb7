"""The ledger of limits as a named Ray actor, one per cluster, and how gateway replicas reach it.

The first replica that needs it makes it, so it lives as long as that replica; then the next one makes it anew, and it goes on from
its journal and from what the replicas state again. Meanwhile they serve from their slices. What it does not know: limits
(`foundry.gateway.limits`). Run: `serve_apps.gateway` does; to look: `ray list actors --filter class_name=_LedgerActor`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from foundry.errors import ConfigurationError, LimitsUnavailable
from foundry.gateway.limits.journal import Journal
from foundry.gateway.limits.ledger import Ledger
from foundry.gateway.limits.wire import Calls, Reply, Report
from foundry.settings import Settings
from foundry.telemetry import configure

_CALLS = 10_000
"""Calls open at once: one `watch` per replica, and their reports."""
_LOCK_WAIT_S = 10.0
"""How long the last ledger's process may take to let go of the journal."""


class _LedgerActor:
    """The ledger in a process of its own. path: of its journal."""

    def __init__(self, path: str, log_level: str) -> None:
        configure("limit-ledger", log_level)
        self._ledger = Ledger(_journal(Path(path)))
        self._running: asyncio.Task[None] | None = None

    async def sync(self, report: Report) -> Reply:
        """See `LedgerClient`."""
        self._run()
        return await self._ledger.sync(report)

    async def watch(self, replica: str, epoch: str, seen: int) -> Calls:
        """See `LedgerClient`."""
        self._run()
        return await self._ledger.watch(replica, epoch, seen)

    def _run(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._ledger.run(), name="limit-ledger")


class RayLedger:
    """A `LedgerClient` for a gateway replica inside Ray."""

    def __init__(self, settings: Settings) -> None:
        self._name = f"limit-ledger-{settings.gateway.cluster}"
        self._namespace = settings.ray.namespace
        self._arguments = (str(Journal.path_of(settings)), settings.log_level)
        self._actor: Any = None  # Any: Ray types actor handles no further
        self._finding = asyncio.Lock()

    async def sync(self, report: Report) -> Reply:
        """Tell and be told. Raises LimitsUnavailable."""
        return await self._call("sync", report)

    async def watch(self, replica: str, epoch: str, seen: int) -> Calls:
        """Wait to be called. Raises LimitsUnavailable."""
        return await self._call("watch", replica, epoch, seen)

    async def _call(self, method: str, *arguments: object) -> Any:  # Any: what the method returns
        try:
            async with self._finding:
                if self._actor is None:
                    self._actor = await asyncio.to_thread(self._find_or_make)
            return await getattr(self._actor, method).remote(*arguments)
        except RayError as error:
            if isinstance(error, LimitsUnavailable):
                raise  # the ledger's own word, wrapped by Ray
            self._actor = None
            raise LimitsUnavailable(
                f"the ledger of limits does not answer: {error}", retry_after_s=1.0
            ) from error

    def _find_or_make(self) -> Any:  # Any: Ray types actor handles no further
        actor = ray.remote(_LedgerActor).options(
            name=self._name,
            namespace=self._namespace,
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=_CALLS,
        )
        return actor.remote(*self._arguments)


def _journal(path: Path) -> Journal:
    """Opened as soon as the last ledger's process has let go of it."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            return Journal(path)
        except ConfigurationError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # in the actor's constructor: nobody else runs here yet
