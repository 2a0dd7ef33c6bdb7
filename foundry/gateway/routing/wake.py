"""Engines scaled to zero are woken: what a request of somebody who wants them looks like to Ray Serve.

Serve starts a replica when something waits for a deployment that has none. So one GET of the engine's health is kept open per
deployment that callers ask for, until a snapshot says that it serves or cannot, and at most `LINGER_S` after the last caller:
an engine that was asked for gets that long to start, also when its callers do not wait. Nothing hangs on the GET's answer,
which Serve gives late or never: it is given up then. What it does not know: requests, who waits (`hold.py`).
"""

from __future__ import annotations

import asyncio

import aiohttp
import structlog

from foundry.gateway.routing.targets import Clock
from foundry.gateway.snapshot import SnapshotStore
from foundry.gateway.transport import Transport
from foundry.gateway.upstream import Upstream
from foundry.types.deployment import STARTING_PHASES
from foundry.types.snapshot import EngineTarget

log = structlog.get_logger()

LINGER_S = 300.0
"""How long after its last caller an engine that does not serve yet is still asked for."""
_AGAIN_S = 2.0
"""Between two GETs, when one was answered: the engine's application is not there yet, or it is up already."""
_PATIENT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)


class Waker:
    """Keeps engines asked for; one per gateway replica. Call it with a deployment's name at each request that lacks it: it does
    not block."""

    def __init__(self, transport: Transport, snapshots: SnapshotStore, clock: Clock) -> None:
        self._transport = transport
        self._snapshots = snapshots
        self._clock = clock
        self._until: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __call__(self, deployment: str) -> None:
        """Somebody wants this deployment."""
        self._until[deployment] = self._clock() + LINGER_S
        if deployment in self._tasks:
            return
        task = asyncio.create_task(self._keep_asking(deployment), name=f"wake-{deployment}")
        self._tasks[deployment] = task
        task.add_done_callback(lambda _: self._tasks.pop(deployment, None))

    @property
    def woken(self) -> frozenset[str]:
        """Deployments that are being asked for."""
        return frozenset(self._tasks)

    async def aclose(self) -> None:
        """Stop asking."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_asking(self, deployment: str) -> None:
        """Until it serves, cannot, or nobody has wanted it for long."""
        log.info("engine_asked_for", deployment=deployment)
        asking = asyncio.create_task(self._ask(deployment))
        try:
            while (left_s := self._until[deployment] - self._clock()) > 0 and self._starting(deployment):
                try:
                    async with asyncio.timeout(left_s):
                        await self._snapshots.newer(self._snapshots.version)
                except TimeoutError:
                    continue
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self, deployment: str) -> None:
        """One GET after the other."""
        while (upstream := self._starting(deployment)) is not None and (
            probe := upstream.probe()
        ) is not None:
            url, headers = probe
            try:
                async with self._transport.session.get(url, headers=headers, timeout=_PATIENT):
                    pass
            except aiohttp.ClientError as error:
                log.debug("engine_not_reached", deployment=deployment, error=str(error))
            await asyncio.sleep(_AGAIN_S)

    def _starting(self, deployment: str) -> Upstream | None:
        """The deployment, as long as the newest snapshot says that it is worth asking for."""
        for route in self._snapshots.current().routes.values():
            for upstream in route.upstreams:
                target = upstream.target
                if isinstance(target, EngineTarget) and target.deployment == deployment:
                    return upstream if target.phase in STARTING_PHASES else None
        return None
