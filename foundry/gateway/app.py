"""The gateway as a raw ASGI application: which path goes where, start and stop.

Every path that serves is in the table of `surface.py`; each goes through the lifecycle or the desk and ends in a usage record,
unknown paths included. `/healthz` alone is open. What it does not know: which server runs it
(Ray Serve in production, uvicorn in tests).
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import structlog

from foundry.codecs import CODECS
from foundry.codecs.openai_errors import error_body
from foundry.errors import SpoolFull
from foundry.gateway.assembly import Plant, Traffic, Works
from foundry.gateway.delivery import Receive, Scope, Send
from foundry.gateway.exchange import Exchange
from foundry.gateway.health import Health
from foundry.gateway.limits.wire import LedgerClient
from foundry.gateway.snapshot import pull
from foundry.settings import Settings
from foundry.telemetry import accepted_request_id, new_id

log = structlog.get_logger()

_JSON = (b"content-type", b"application/json")


class Gateway:
    """One gateway replica.

    gateway_id: names it in usage records and names its spool folder, so it is unique per replica.
    sends_request_id: False where the server adds `x-request-id` to every answer itself, as Ray Serve does.
    ledger: of limits, shared by all replicas; None: this is the only replica and keeps its own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        gateway_id: str,
        sends_request_id: bool = True,
        ledger: LedgerClient | None = None,
    ) -> None:
        self._settings = settings
        self._traffic = Traffic()
        plant = Plant.of(settings, gateway_id, sends_request_id=sends_request_id)
        works = Works.of(settings, gateway_id, plant, self._traffic, ledger)
        self._transport, self._workers = plant.transport, plant.workers
        self.snapshots, self.spool, self.shipper = plant.snapshots, plant.spool, plant.shipper
        self.progress = plant.progress
        self.limits, self.routing, self.state = works.limits, works.routing, works.state
        """Of `routing`, `holder.wake` may be set to start engines on demand."""
        self.surface = works.surface
        self._cache, self._lifecycle, self._desk = works.cache, works.lifecycle, works.desk
        self._report = Health(plant.snapshots, plant.spool, plant.shipper, plant.delivery, works.cache)
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Load the last snapshot from disk, then keep pulling newer ones and shipping usage in the
        background."""
        self.snapshots.load()
        control, gateway = self._settings.control, self._settings.gateway
        url = f"{control.url}/v1/snapshots/{gateway.cluster}"
        self._running.push_async_callback(self._transport.aclose)
        self._running.push_async_callback(self.routing.aclose)
        self._running.push_async_callback(self._cache.aclose)
        puller = pull(
            self.snapshots,
            self._transport.session,
            url,
            self._settings.secret("cluster.token"),
            gateway.snapshot_wait_s,
        )
        self._hold(asyncio.create_task(puller, name="snapshot-pull"))
        self.limits.start(talk=bool(self.snapshots.version and self.snapshots.current().limits.rules))
        self._running.push_async_callback(self.limits.stop)
        self.shipper.start()
        self._hold(asyncio.create_task(self.progress.run(), name="open-streams"))
        self._running.push_async_callback(self.shipper.stop)
        self._running.push_async_callback(self.state.objects.aclose)
        self._hold(asyncio.create_task(self.state.runner.run(), name="batch-runner"))
        self._hold(asyncio.create_task(self.state.sweep(), name="state-sweep"))
        self._running.push_async_callback(self.state.background.aclose)

    async def stop(self) -> None:
        """Stop the background work; ships what is spooled within a bound, the rest stays on disk for the
        next replica."""
        await self._running.aclose()
        await asyncio.to_thread(self._workers.close)
        self.progress.close()
        self.spool.close()

    def _hold(self, task: asyncio.Task[None]) -> None:
        async def cancel() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._running.push_async_callback(cancel)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/healthz":
            await self._health(send)
            return
        if not self.spool.has_room():
            await self._refuse_unmetered(send)
            return
        headers = dict(scope["headers"])
        codec = CODECS.get(path)
        exchange = Exchange(
            codec.name if codec else "unknown", accepted_request_id(headers.get(b"x-request-id", b""))
        )
        if codec is not None:
            self._traffic.in_flight += 1
            try:
                await self._lifecycle.infer(codec, exchange, headers, scope, receive, send)
            finally:
                self._traffic.in_flight -= 1
        else:
            await self._desk.serve(exchange, headers, scope, receive, send)

    async def _refuse_unmetered(self, send: Send) -> None:
        """Usage cannot be kept any more: nothing is served, and this refusal is the one answer without a record."""
        error = SpoolFull("usage cannot be recorded at present, so nothing is served", retry_after_s=5.0)
        headers = [_JSON, (b"retry-after", b"5")]
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": error_body(error, new_id("req"))})

    async def _health(self, send: Send) -> None:
        status, body = self._report.report()
        await send({"type": "http.response.start", "status": status, "headers": [_JSON]})
        await send({"type": "http.response.body", "body": body})
