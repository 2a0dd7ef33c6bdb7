"""The loop: load what is wanted, act on Ray outside any database session, apply what was seen guarded by row versions.

One API process leads at a time (an advisory lock), so that one submits; a second one, or a stale one, can do no harm: the
configuration is whole and idempotent, and a row that changed meanwhile is left for the next round.
What it does not know: how Serve is spoken to (`serve_api`), what phases mean (`phases`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.clusters import service as clusters
from control_api.clusters.schemas import GATEWAY_NAME, GatewayStatus
from control_api.deployments import service as deployments
from control_api.deployments.service import Observation
from control_api.kit.changes import Topic
from control_api.kit.leader import Leadership
from control_api.kit.runtime import Runtime
from control_api.models import Cluster
from control_api.models.base import now
from control_api.reconcile import phases
from control_api.reconcile.progress import newest_progress
from control_api.reconcile.serve_api import ServeApi, ServeApplication, ServeDetails
from control_api.reconcile.serve_config import Config, Desired, application_names, fingerprint, serve_config
from foundry.errors import UpstreamError
from foundry.types.deployment import DeploymentPhase, DeploymentSpec, DeploymentStatus

log = structlog.get_logger(__name__)
_SETTLED_S = 5.0
_MOVING_S = 1.0
_STANDBY_S = 2.0
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
_SETTLED_PHASES = frozenset({DeploymentPhase.READY, DeploymentPhase.FAILED})


@dataclass(frozen=True)
class Seen:
    """What one round found out about the cluster."""

    details: ServeDetails | None
    """None: Ray did not answer, or refused."""
    submitted_hash: str
    problem: str = ""
    """Why Ray did not do as asked, for a person."""
    reachable: bool = True


class Reconciler:
    """Keeps one cluster as the database wants it. `run()` is a background task; `step()` is one round."""

    def __init__(self, runtime: Runtime, cluster: str) -> None:
        self._runtime = runtime
        self._cluster = cluster
        self._serve = ServeApi(runtime.settings.ray.dashboard_url, runtime.ray_token)
        self._leadership = Leadership(runtime.database.url, f"foundry-reconcile-{cluster}")
        self._failures = 0

    async def run(self) -> None:
        """Rounds until cancelled: at once when something is wanted, else as often as things move."""
        desired = self._runtime.changes.signal(Topic.DESIRED)
        while True:
            seen = desired.count
            try:
                pause_s = await self.step()
            except (SQLAlchemyError, psycopg.Error, OSError) as error:
                log.warning("reconcile_database_error", error=str(error), retry_s=_MOVING_S)
                pause_s = _MOVING_S
            await desired.wait_beyond(seen, pause_s)

    async def step(self) -> float:
        """One round; seconds until the next is due."""
        if not await self._leadership.held():
            return _STANDBY_S
        cluster, wanted = await self._load()
        seen = await self._act(cluster, wanted)
        observations = await self._observe(seen, wanted)
        await self._apply(cluster, seen, wanted, observations)
        if seen.problem:
            pause_s = _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
            self._failures += 1
            return pause_s
        self._failures = 0
        settled = all(item.status.phase in _SETTLED_PHASES for item in observations)
        gateway = phases.gateway_status(self._application(seen, GATEWAY_NAME))
        return _SETTLED_S if settled and gateway.status == "running" else _MOVING_S

    async def close(self) -> None:
        """Give up leadership and close the connections."""
        await self._leadership.release()
        await self._serve.close()

    async def _load(self) -> tuple[Cluster, list[Desired]]:
        async with self._runtime.database.read() as session:
            cluster = await clusters.get(session, self._cluster)
            rows = await deployments.list_all(session)
        return cluster, [
            Desired(
                deployment_id=row.id,
                row_version=row.row_version,
                generation=row.generation,
                observed_generation=row.observed_generation,
                attempt=row.attempt,
                spec=DeploymentSpec.model_validate(row.spec),
                status=DeploymentStatus.model_validate(row.status),
                deleting=row.deleting_at is not None,
            )
            for row in rows
        ]

    async def _act(self, cluster: Cluster, wanted: Sequence[Desired]) -> Seen:
        """Submit when the wanted configuration changed or the cluster lost an application; then look."""
        config = serve_config(self._runtime.settings.ray, wanted)
        digest = fingerprint(config)
        try:
            details = await self._serve.details()
            reason = self._reason_to_submit(cluster, config, digest, details)
            if reason:
                log.info("serve_config_submitted", cluster=self._cluster, reason=reason, hash=digest[:12])
                await self._serve.submit(config)
                details = await self._serve.details()
        except UpstreamError as error:
            refused = error.code == "upstream_refused"
            log.warning("ray_not_reconciled", cluster=self._cluster, detail=error.message)
            return Seen(
                details=None, submitted_hash=cluster.submitted_hash, problem=error.message, reachable=refused
            )
        return Seen(details=details, submitted_hash=digest)

    def _reason_to_submit(self, cluster: Cluster, config: Config, digest: str, details: ServeDetails) -> str:
        if cluster.submitted_hash != digest:
            return "the wanted configuration changed"
        present = {name for name, app in details.applications.items() if app.status != "DELETING"}
        lost = application_names(config) - present
        return f"the cluster does not have {', '.join(sorted(lost))}" if lost else ""

    async def _observe(self, seen: Seen, wanted: Sequence[Desired]) -> list[Observation]:
        return [await self._observe_one(seen, item) for item in wanted]

    async def _observe_one(self, seen: Seen, item: Desired) -> Observation:
        app = self._application(seen, item.spec.name)
        if seen.details is None:
            status = phases.unreachable(item, seen.problem, now())
        else:
            progress = None
            if app is not None:
                progress = await asyncio.to_thread(
                    newest_progress,
                    self._runtime.settings.home,
                    item.spec.name,
                    since_s=app.last_deployed_time_s,
                )
            status = phases.observed(item, app, progress, await self._log_line(item, app), now())
        return Observation(
            deployment_id=item.deployment_id,
            row_version=item.row_version,
            generation=item.observed_generation if seen.details is None else item.generation,
            status=status,
            gone=item.deleting and seen.details is not None and app is None,
        )

    async def _log_line(self, item: Desired, app: ServeApplication | None) -> str:
        if app is None or item.deleting or phases.answering_replicas(app):
            return ""
        actor_id = phases.newest_actor(app)
        return await self._serve.last_log_line(actor_id) if actor_id else ""

    async def _apply(
        self, cluster: Cluster, seen: Seen, wanted: Sequence[Desired], observations: Sequence[Observation]
    ) -> None:
        changed = [
            now_seen
            for item, now_seen in zip(wanted, observations, strict=True)
            if now_seen.gone
            or now_seen.generation != item.observed_generation
            or not phases.same_but_time(item.status, now_seen.status)
        ]
        gateway = phases.gateway_status(self._application(seen, GATEWAY_NAME))
        if seen.details is None and seen.reachable is False:
            gateway = GatewayStatus.model_validate(cluster.gateway).model_copy(
                update={"message": seen.problem}
            )
        async with self._runtime.database.write() as session:
            held = await clusters.record(
                session,
                cluster,
                reachable=seen.reachable,
                message=seen.problem,
                submitted_hash=seen.submitted_hash,
                gateway=gateway,
            )
            if held:  # else another process led meanwhile: what we saw is old
                await deployments.record(session, changed)

    @staticmethod
    def _application(seen: Seen, name: str) -> ServeApplication | None:
        return seen.details.applications.get(name) if seen.details else None
