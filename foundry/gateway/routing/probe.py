"""Active probes: a target whose breaker has opened is asked whether it is alive, where its route says so.

One task per target that is out, and none while all are well. A probe that is answered lets trials through at once; the
trials decide. What it does not know: breakers' rules (`health.py`), the requests that failed.
"""

from __future__ import annotations

import asyncio

import aiohttp
import structlog
from yarl import URL

from foundry.gateway.routing.targets import Candidate
from foundry.gateway.transport import Transport

log = structlog.get_logger()

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_PATHS = {"openai": "/v1/models", "anthropic": "/v1/models"}
"""By wire: what any server of that protocol answers at no cost. Targets of other wires come back by trials alone."""
_ENGINE_PATH = "/health"
_ALIVE = frozenset({200, 204, 404, 405})
"""A server that has no such path is a server that answers."""


class Prober:
    """Watches the targets that are out; one per gateway replica. `watch` is called when a breaker has opened."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, candidate: Candidate) -> None:
        """Probe it until it answers or its breaker is not open any more."""
        target_id, url = candidate.state.target_id, _url(candidate)
        if url is None or target_id in self._tasks:
            return
        task = asyncio.create_task(self._probe(candidate, url), name=f"probe-{target_id}")
        self._tasks[target_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(target_id, None))

    async def aclose(self) -> None:
        """Stop every probe."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, candidate: Candidate, url: URL) -> None:
        breaker, interval_s = candidate.breaker, candidate.breaker.health.probe_interval_s
        assert interval_s is not None  # noqa: S101  only such candidates are watched
        while True:
            await asyncio.sleep(interval_s)
            if breaker.state != "open":
                return
            if await self._alive(candidate, url):
                log.info("target_probe_answered", target_id=candidate.state.target_id)
                breaker.half_open()
                return

    async def _alive(self, candidate: Candidate, url: URL) -> bool:
        headers = candidate.upstream.probe_headers()
        try:
            async with self._transport.session.get(url, headers=headers, timeout=_TIMEOUT) as response:
                return response.status in _ALIVE
        except (aiohttp.ClientError, TimeoutError):
            return False


def _url(candidate: Candidate) -> URL | None:
    upstream = candidate.upstream
    if upstream.deployment:
        return upstream.url(_ENGINE_PATH)
    path = next((_PATHS[wire] for wire in upstream.wires if wire in _PATHS), None)
    return None if path is None else upstream.url(path)
