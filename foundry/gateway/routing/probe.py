"""Active probes: a target whose breaker has opened is asked whether it is alive, where its route says so.

One task per target that is out, and none while all are well. A probe that is answered lets trials through at once; the
trials decide. A target that the newest snapshot does not serve from is left alone: a probe must not wake an engine that was scaled to
zero. What it does not know: breakers' rules (`health.py`), the requests that failed.
"""

from __future__ import annotations

import asyncio

import aiohttp
import structlog

from foundry.gateway.routing.targets import Candidate
from foundry.gateway.snapshot import SnapshotStore
from foundry.gateway.transport import Transport
from foundry.gateway.upstream import Upstream

log = structlog.get_logger()

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_ALIVE = frozenset({200, 204, 404, 405})
"""A server that has no such path is a server that answers."""


class Prober:
    """Watches the targets that are out; one per gateway replica. `watch` is called when a breaker has opened."""

    def __init__(self, transport: Transport, snapshots: SnapshotStore) -> None:
        self._transport = transport
        self._snapshots = snapshots
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, candidate: Candidate) -> None:
        """Probe it until it answers or its breaker is not open any more."""
        target_id = candidate.state.target_id
        if candidate.upstream.probe() is None or target_id in self._tasks:
            return
        task = asyncio.create_task(self._probe(candidate), name=f"probe-{target_id}")
        self._tasks[target_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(target_id, None))

    @property
    def watched(self) -> frozenset[str]:
        """Ids of the targets that are being probed."""
        return frozenset(self._tasks)

    async def aclose(self) -> None:
        """Stop every probe."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, candidate: Candidate) -> None:
        breaker, interval_s = candidate.breaker, candidate.breaker.health.probe_interval_s
        assert interval_s is not None  # noqa: S101  only such candidates are watched
        target_id = candidate.state.target_id
        while True:
            await asyncio.sleep(interval_s)
            upstream = self._serving(target_id)
            if breaker.state != "open" or upstream is None:
                return
            if await self._alive(upstream):
                log.info("target_probe_answered", target_id=target_id)
                breaker.half_open()
                return

    def _serving(self, target_id: str) -> Upstream | None:
        """The target as the newest snapshot names it; None when it is not to be asked at all."""
        upstreams = (one for route in self._snapshots.current().routes.values() for one in route.upstreams)
        return next((one for one in upstreams if one.target_id == target_id and one.error is None), None)

    async def _alive(self, upstream: Upstream) -> bool:
        asked = upstream.probe()
        if asked is None:
            return False
        url, headers = asked
        try:
            async with self._transport.session.get(url, headers=headers, timeout=_TIMEOUT) as response:
                return response.status in _ALIVE
        except (aiohttp.ClientError, TimeoutError):
            return False
