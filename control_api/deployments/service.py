"""What can be done with deployments: want one, change it, delete it; and what the reconciler reports about it.

What it does not know: HTTP, SQL, Ray. Wanting is all that a caller does here; the reconciler does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_api.auth.subject import Subject
from control_api.deployments import repository
from control_api.kit.changes import Topic, announce
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.pagination import Window
from control_api.kit.repository import sees
from control_api.models import Deployment
from control_api.models.base import now
from foundry.errors import Conflict, InvalidParameter, NotFound
from foundry.telemetry import new_id
from foundry.types.deployment import SERVING_PHASES, DeploymentPhase, DeploymentSpec, DeploymentStatus

RESERVED_NAMES = frozenset({"gateway"})
"""Serve applications of the platform itself."""


@dataclass(frozen=True)
class Observation:
    """What the reconciler saw of one deployment, and of which version of the row."""

    deployment_id: str
    row_version: int
    generation: int
    status: DeploymentStatus
    gone: bool = False
    """The deployment is being deleted and nothing of it is left on the cluster."""


async def put(session: WriteSession, subject: Subject, spec: DeploymentSpec) -> Deployment:
    """Want this deployment: make it, change it, or start a failed one afresh. Raises Conflict, InvalidParameter."""
    if spec.name in RESERVED_NAMES:
        raise InvalidParameter(
            f"'{spec.name}' names a part of the platform: choose another name", param="name"
        )
    row = await repository.lock_any(session, spec.name)
    if row is None:
        row = _new_row(subject, spec)
        await _check_routes(session, spec)
        await session.insert(row)
        await repository.adopt_targets(session, row.id, row.name)
    else:
        await _change(session, subject, row, spec)
    await announce(session, Topic.DESIRED, Topic.SERVING)
    return row


async def list_visible(
    session: ReadSession, subject: Subject, window: Window
) -> tuple[Sequence[Deployment], str | None]:
    """One page of the deployments that the subject may see."""
    return await repository.window(session, subject, window)


async def get(session: ReadSession, subject: Subject, name: str) -> Deployment:
    """A visible deployment. Raises NotFound."""
    row = await repository.by_name(session, subject, name)
    if row is None:
        raise NotFound(f"no deployment '{name}'")
    return row


async def delete(session: WriteSession, subject: Subject, name: str) -> Deployment:
    """Want it gone; the row goes when the cluster has let go of it. Raises NotFound, and Conflict while routes use it."""
    row = await repository.lock_any(session, name)
    if row is None or not sees(subject, row):
        raise NotFound(f"no deployment '{name}'")
    routes = await repository.routes_to(session, row.id)
    if routes:
        raise Conflict(
            f"deployment '{name}' serves the routes {', '.join(routes)}: change or delete them first"
        )
    if row.deleting_at is None:
        row.deleting_at = now()
        _set_status(row, DeploymentPhase.DELETING, "asked of the cluster")
        await session.flush()
        await announce(session, Topic.DESIRED, Topic.SERVING)
    return row


async def lock_for_routes(
    session: WriteSession, subject: Subject, names: Sequence[str]
) -> dict[str, Deployment]:
    """Deployments that a route may target, by name, kept while this transaction lasts. Raises InvalidParameter."""
    rows = {row.name: row for row in await repository.lock_shared(session, subject, names)}
    for name in names:
        row = rows.get(name)
        if row is None or row.deleting_at is not None:
            known = "is being deleted" if row else "does not exist"
            raise InvalidParameter(f"deployment '{name}' {known}: make it first", param="targets")
    return rows


async def list_all(session: ReadSession) -> Sequence[Deployment]:
    """Every deployment of the instance, for the reconciler and the snapshot."""
    return await repository.everything(session)


async def record(session: WriteSession, observations: Sequence[Observation]) -> int:
    """Write down what was seen, row by row unless it changed meanwhile; how many rows were written."""
    written = 0
    for seen in observations:
        if seen.gone:
            written += await repository.remove(session, seen.deployment_id, seen.row_version)
        else:
            status = seen.status.model_dump(mode="json")
            written += await repository.write_status(
                session, seen.deployment_id, seen.row_version, status, seen.generation
            )
    if written:
        await announce(session, Topic.SERVING)
    return written


async def _change(session: WriteSession, subject: Subject, row: Deployment, spec: DeploymentSpec) -> None:
    if not sees(subject, row):
        raise Conflict(f"the name '{spec.name}' is taken: choose another")
    if row.deleting_at is not None:
        raise Conflict(f"deployment '{spec.name}' is being deleted: wait until it is gone")
    before = DeploymentSpec.model_validate(row.spec)
    phase = DeploymentStatus.model_validate(row.status).phase
    failed = phase is DeploymentPhase.FAILED
    if before == spec and not failed:
        return
    await _check_routes(session, spec)
    row.spec = spec.model_dump(mode="json")
    row.generation += 1
    row.attempt += int(failed)
    row.row_version += 1
    row.updated_at = now()
    if phase not in SERVING_PHASES:  # one that serves goes on serving until the cluster has taken the change
        _set_status(row, DeploymentPhase.QUEUED, "waiting for the reconciler")
    await session.flush()


async def _check_routes(session: WriteSession, spec: DeploymentSpec) -> None:
    """The deployment must be what its routes want; those of the configuration file may have named it before it existed."""
    wanted = await repository.wanted_of(session, spec.name)
    other_task = {route: task for route, task, _ in wanted if task != spec.task.value}
    if other_task:
        tasks = ", ".join(f"{route} (task {task})" for route, task in other_task.items())
        raise Conflict(
            f"deployment '{spec.name}' would not serve its routes {tasks}: change or delete them first"
        )
    lost = {route: adapter for route, _, adapter in wanted if adapter and adapter not in spec.adapters}
    if lost:
        adapters = ", ".join(f"{route} (adapter {adapter})" for route, adapter in lost.items())
        raise Conflict(
            f"routes ask deployment '{spec.name}' for adapters that it would not have: {adapters}; change them first"
        )


def _new_row(subject: Subject, spec: DeploymentSpec) -> Deployment:
    status = DeploymentStatus(
        phase=DeploymentPhase.QUEUED, detail="waiting for the reconciler", updated_at=now()
    )
    return Deployment(
        id=new_id("dep"),
        organization_id=subject.organization_id,
        project_id=subject.project_id,
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        status=status.model_dump(mode="json"),
    )


def _set_status(row: Deployment, phase: DeploymentPhase, detail: str) -> None:
    row.status = DeploymentStatus(phase=phase, detail=detail, updated_at=now()).model_dump(mode="json")
    row.row_version += 1
    row.updated_at = now()
