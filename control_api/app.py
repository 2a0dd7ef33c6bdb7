"""The wiring: settings in, a FastAPI application out. Its lifespan migrates, bootstraps and runs the background tasks.

What it does not know: what the nouns do. To add a noun: one line in ROUTERS (docs/control_api.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from fastapi import APIRouter, FastAPI
from sqlalchemy.exc import SQLAlchemyError

from control_api.blocks.endpoints import router as blocks
from control_api.bootstrap import bootstrap
from control_api.clusters.endpoints import router as clusters
from control_api.deployments.endpoints import router as deployments
from control_api.gateway_config.endpoints import router as gateway_config
from control_api.gateway_config.watch import ConfigWatch
from control_api.guardrails.endpoints import router as guardrails
from control_api.keys.endpoints import router as keys
from control_api.kit import problem
from control_api.kit.edge import Edge
from control_api.kit.runtime import Runtime, RuntimeOf
from control_api.limits.endpoints import router as limits
from control_api.migrations import upgrade
from control_api.organizations.endpoints import router as organizations
from control_api.projects.endpoints import router as projects
from control_api.providers.endpoints import router as providers
from control_api.reconcile.loop import Reconciler
from control_api.routes.endpoints import router as routes
from control_api.snapshots import service as snapshots
from control_api.snapshots.endpoints import router as snapshots_router
from control_api.usage.endpoints import router as usage_router
from control_api.usage.service import UsageReader
from foundry.errors import Unavailable
from foundry.settings import Settings
from foundry.types.control import Health, Problem

log = structlog.get_logger(__name__)
ROUTERS: tuple[APIRouter, ...] = (
    organizations,
    projects,
    keys,
    deployments,
    routes,
    limits,
    guardrails,
    blocks,
    gateway_config,
    snapshots_router,
    usage_router,
    providers,
    clusters,
)
_DATABASE_WAIT_S = 60.0
_DATABASE_RETRY_S = 0.25

health = APIRouter(tags=["health"])


@health.get("/healthz")
async def healthz(runtime: RuntimeOf) -> Health:
    """Open. 200 once the database answers."""
    await runtime.database.ping()
    return Health()


@health.get("/readyz")
async def readyz(runtime: RuntimeOf) -> Health:
    """Open. 200 once a change reaches every process and a gateway would get its configuration."""
    await runtime.database.ping()
    if not runtime.changes.listening.is_set():
        raise Unavailable("the connection that receives change signals is down", retry_after_s=1)
    if await snapshots.wait_newer(runtime, runtime.settings.gateway.cluster, after=0, wait_s=0) is None:
        raise Unavailable("no snapshot has been published yet", retry_after_s=1)
    return Health()


async def _wait_for_database(runtime: Runtime) -> None:
    deadline = time.monotonic() + _DATABASE_WAIT_S
    while True:
        try:
            await runtime.database.ping()
        except (SQLAlchemyError, OSError) as error:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the database did not answer within {_DATABASE_WAIT_S:g} s: {error}"
                ) from error
            await asyncio.sleep(_DATABASE_RETRY_S)
        else:
            return


def _on_task_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background_task_died", task=task.get_name(), exc_info=error)


@asynccontextmanager
async def _background(runtime: Runtime, usage: UsageReader, *, reconcile: bool) -> AsyncGenerator[None]:
    """Run the background tasks for as long as the block lasts; they are cancelled and awaited at its end."""
    cluster = runtime.settings.gateway.cluster
    reconciler = Reconciler(runtime, cluster) if reconcile else None
    work = {
        "changes": runtime.changes.listen(),
        "publisher": snapshots.keep_published(runtime, cluster),
        "metrics-migration": usage.migrate(),
        "gateway-config": ConfigWatch(runtime).run(),
    }
    if reconciler is not None:
        work["reconciler"] = reconciler.run()
    tasks = [asyncio.create_task(task, name=name) for name, task in work.items()]
    for task in tasks:
        task.add_done_callback(_on_task_end)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if reconciler is not None:
            await reconciler.close()


def create_app(settings: Settings, *, reconcile: bool = True) -> FastAPI:
    """The application. Connects to nothing until its lifespan starts. reconcile: run the reconciler in this process."""
    runtime = Runtime.from_settings(settings)
    usage = UsageReader(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        await _wait_for_database(runtime)
        await asyncio.to_thread(upgrade, runtime.database.url)
        await bootstrap(runtime)
        async with _background(runtime, usage, reconcile=reconcile):
            yield
        await usage.close()
        await runtime.database.close()

    app = FastAPI(
        title="Foundry control API",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # their assets come from a CDN; /openapi.json is complete
        redoc_url=None,
        responses={"4XX": {"model": Problem, "description": "RFC 9457 problem details"}},
    )
    app.state.runtime, app.state.usage = runtime, usage
    problem.install(app)
    app.include_router(health)
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Edge)
    return app
