"""From what Serve and the replicas say to the phase that a person reads. Pure functions.

What it does not know: HTTP, the database, files.
"""

from __future__ import annotations

import re
from datetime import datetime

from control_api.clusters.schemas import GatewayPhase, GatewayStatus
from control_api.reconcile.progress import Progress
from control_api.reconcile.serve_api import ServeApplication, ServeDeployment
from control_api.reconcile.serve_config import Desired
from foundry.types.deployment import SERVING_PHASES, DeploymentPhase, DeploymentStatus

_STARTING_STATES = frozenset({"STARTING", "UPDATING", "RECOVERING"})
_STARTING_PHASES = frozenset({DeploymentPhase.PULLING, DeploymentPhase.LOADING, DeploymentPhase.WARMING})
_SCALING_STATES = frozenset({"RUNNING", "DEPLOYING"})
_ROUTERS = frozenset({"router"})
"""Serve deployments beside the engine's (`serve_apps/engine.py`)."""
_DETAIL_CHARS = 500
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Refused|NotFound)\b.*:")
"""Where an exception's own words begin in a traceback."""
_GATEWAY_PHASES: dict[str, GatewayPhase] = {
    "NOT_STARTED": "starting",
    "DEPLOYING": "starting",
    "DEPLOY_FAILED": "failed",
    "RUNNING": "running",
    "UNHEALTHY": "degraded",
    "DELETING": "deleting",
}


def one_line(text: str) -> str:
    """The words that matter of an engine's message, in one line: of a traceback the last exception, else all of it."""
    lines = [line.strip() for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    if any(line.startswith(("Traceback", 'File "')) for line in lines):
        raised = [number for number, line in enumerate(lines) if _EXCEPTION.match(line)]
        lines = lines[raised[-1] if raised else -1 :]
    return " ".join(lines)[:_DETAIL_CHARS]


def unreachable(item: Desired, reason: str, at: datetime) -> DeploymentStatus:
    """Ray does not answer. What served is assumed to serve: only its dashboard may be down."""
    if item.status.phase in SERVING_PHASES:
        return item.status.model_copy(update={"detail": f"last known state; {reason}"})
    phase = DeploymentPhase.DELETING if item.deleting else DeploymentPhase.QUEUED
    return DeploymentStatus(phase=phase, detail=f"waiting for Ray: {reason}", updated_at=at)


def observed(
    item: Desired, app: ServeApplication | None, progress: Progress | None, log_line: str, at: datetime
) -> DeploymentStatus:
    """The status of one deployment from Serve's details of its application."""
    if item.deleting:
        return DeploymentStatus(
            phase=DeploymentPhase.DELETING, detail="the cluster is stopping it", updated_at=at
        )
    if app is None or app.status in {"NOT_STARTED", "DELETING"}:
        detail = (
            "submitted to the cluster"
            if app is None
            else "an earlier deployment of that name is being stopped"
        )
        return DeploymentStatus(phase=DeploymentPhase.QUEUED, detail=detail, updated_at=at)
    ready = answering_replicas(app)
    if item.spec.autoscaling is not None and not ready and app.status in _SCALING_STATES:
        return _at_zero(app, progress, log_line, at)
    if app.status == "RUNNING" or ready:
        return _serving(item, app, ready, at)
    if app.status == "DEPLOY_FAILED":
        words = _reason(app, progress) or "Serve gave no reason"
        return DeploymentStatus(
            phase=DeploymentPhase.FAILED,
            detail=f"{words}; change the deployment, or submit it again to retry",
            last_log_line=log_line,
            updated_at=at,
        )
    return _starting(app, progress, log_line, at)


def answering_replicas(app: ServeApplication) -> int:
    """Replicas that can answer: the fewest RUNNING ones among the application's deployments; 0 if any has none. One replica of
    the deployment that routes serves all replicas of the engine."""
    if any(not part.running for part in app.deployments.values()):
        return 0
    return min((part.running for name, part in app.deployments.items() if name not in _ROUTERS), default=0)


def newest_actor(app: ServeApplication) -> str | None:
    """The actor whose log tells most: the newest replica, live or dead."""
    replicas = [
        replica
        for part in app.deployments.values()
        for replica in (*part.replicas, *part.recent_dead_replicas)
        if replica.actor_id
    ]
    newest = max(replicas, key=lambda replica: replica.start_time_s, default=None)
    return newest.actor_id if newest else None


def gateway_status(app: ServeApplication | None) -> GatewayStatus:
    """The gateway application's own status."""
    if app is None:
        return GatewayStatus(message="not on the cluster yet")
    return GatewayStatus(
        status=_GATEWAY_PHASES.get(app.status, "starting"),
        ready_replicas=sum(part.running for part in app.deployments.values()),
        target_replicas=sum(part.target_num_replicas for part in app.deployments.values()),
        message=one_line(_words(app)),
    )


def same_but_time(left: DeploymentStatus, right: DeploymentStatus) -> bool:
    """Whether two statuses tell the same."""
    return left.model_copy(update={"updated_at": right.updated_at}) == right


def _serving(item: Desired, app: ServeApplication, ready: int, at: datetime) -> DeploymentStatus:
    scaling = item.spec.autoscaling
    wanted = scaling.min_replicas if scaling else item.spec.replicas
    words = one_line(_words(app)) if app.status != "RUNNING" else ""
    if app.status == "RUNNING" and ready == 0:  # details of the parts are not there yet
        ready = wanted if not app.deployments else 0
    if ready >= wanted and app.status in {"RUNNING", "DEPLOYING"}:
        detail = "" if app.status == "RUNNING" else "serving while a change rolls out"
        return DeploymentStatus(
            phase=DeploymentPhase.READY, detail=detail, ready_replicas=ready, updated_at=at
        )
    detail = f"{ready} of {wanted} replicas answer" + (f"; {words}" if words else "")
    return DeploymentStatus(
        phase=DeploymentPhase.DEGRADED, detail=detail, ready_replicas=ready, updated_at=at
    )


def _at_zero(
    app: ServeApplication, progress: Progress | None, log_line: str, at: datetime
) -> DeploymentStatus:
    """An autoscaled deployment without a replica that answers: idle when none is wanted, else on its way."""
    if all(part.target_num_replicas for part in app.deployments.values()):
        return _starting(app, progress, log_line, at)
    return DeploymentStatus(
        phase=DeploymentPhase.IDLE, detail="scaled to zero: the next request starts a replica", updated_at=at
    )


def _starting(
    app: ServeApplication, progress: Progress | None, log_line: str, at: datetime
) -> DeploymentStatus:
    parts = list(app.deployments.values())
    placed = [part for part in parts if any(_is_placed(part))]
    words = one_line(_words(app))
    if progress is not None and progress.phase is DeploymentPhase.FAILED:
        words = f"Serve starts it again after: {one_line(progress.detail)}"
    if progress is not None and progress.phase in _STARTING_PHASES:
        return DeploymentStatus(
            phase=progress.phase,
            detail=progress.detail or words,
            percent=progress.percent,
            eta_s=progress.eta_s,
            last_log_line=log_line,
            updated_at=at,
        )
    if not placed:
        detail = words or (
            "waiting for CPUs, memory or GPUs" if parts else "Serve is building the application"
        )
        return DeploymentStatus(
            phase=DeploymentPhase.PLACING, detail=detail, last_log_line=log_line, updated_at=at
        )
    return DeploymentStatus(
        phase=DeploymentPhase.LOADING,
        detail=words or "the engine is starting",
        last_log_line=log_line,
        updated_at=at,
    )


def _reason(app: ServeApplication, progress: Progress | None) -> str:
    """Why it failed: the engine's own words, else those about its replica, else Serve's about the application."""
    if progress is not None and progress.phase is DeploymentPhase.FAILED:
        return one_line(progress.detail)
    failed = [part.message for part in app.deployments.values() if part.status == app.status]
    return one_line(next((words for words in failed if words), app.message))


def _is_placed(part: ServeDeployment) -> list[bool]:
    return [
        replica.pid is not None
        for replica in part.replicas
        if replica.state in _STARTING_STATES or part.running
    ]


def _words(app: ServeApplication) -> str:
    return app.message or next((part.message for part in app.deployments.values() if part.message), "")
