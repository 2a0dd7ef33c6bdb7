"""What can be done with routes: make, replace, delete.

What it does not know: HTTP, SQL, how a gateway chooses among targets.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_api.auth.subject import Subject
from control_api.deployments import service as deployments
from control_api.kit.changes import Topic, announce
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.pagination import Window
from control_api.kit.repository import sees
from control_api.models import Deployment, Route, RouteTarget
from control_api.models.base import now
from control_api.routes import repository
from foundry.errors import Conflict, InvalidParameter, NotFound
from foundry.providers.vendors import vendors
from foundry.telemetry import new_id
from foundry.types.control import EngineTargetSpec, ProviderTargetSpec, RouteWrite
from foundry.types.deployment import DeploymentSpec, Task


async def put(session: WriteSession, subject: Subject, name: str, wanted: RouteWrite) -> Route:
    """Make or replace a route. Raises InvalidParameter for a target that cannot serve it, Conflict for a taken name."""
    engines = [target.deployment for target in wanted.targets if isinstance(target, EngineTargetSpec)]
    found = await deployments.lock_for_routes(session, subject, engines)
    _check(wanted, found)
    row = await repository.lock_any(session, name)
    if row is None:
        row = Route(
            id=new_id("rte"),
            organization_id=subject.organization_id,
            project_id=subject.project_id,
            name=name,
            task=wanted.task.value,
        )
        await session.insert(row)
    elif not sees(subject, row):
        raise Conflict(f"the route name '{name}' is taken: choose another")
    else:
        row.task, row.updated_at = wanted.task.value, now()
        await session.flush()
    await repository.replace_targets(
        session,
        row.id,
        [_target_row(row.id, place, target, found) for place, target in enumerate(wanted.targets)],
    )
    await announce(session, Topic.SERVING)
    return row


async def list_visible(
    session: ReadSession, subject: Subject, window: Window
) -> tuple[Sequence[Route], str | None]:
    """One page of the routes that the subject may see."""
    return await repository.window(session, subject, window)


async def get(session: ReadSession, subject: Subject, name: str) -> Route:
    """A visible route. Raises NotFound."""
    row = await repository.by_name(session, subject, name)
    if row is None:
        raise NotFound(f"no route '{name}'")
    return row


async def delete(session: WriteSession, subject: Subject, name: str) -> None:
    """Delete a route. Raises NotFound."""
    row = await repository.lock_any(session, name)
    if row is None or not sees(subject, row):
        raise NotFound(f"no route '{name}'")
    await repository.replace_targets(session, row.id, [])
    await session.delete(row)
    await announce(session, Topic.SERVING)


async def list_all(session: ReadSession) -> Sequence[Route]:
    """Every route of the instance, for the snapshot."""
    return await repository.everything(session)


def _check(wanted: RouteWrite, found: dict[str, Deployment]) -> None:
    for target in wanted.targets:
        if isinstance(target, ProviderTargetSpec):
            if target.provider not in vendors():
                raise InvalidParameter(
                    f"unknown provider '{target.provider}': known are {', '.join(sorted(vendors()))}",
                    param="targets",
                )
            continue
        task = DeploymentSpec.model_validate(found[target.deployment].spec).task
        if task is not Task(wanted.task):
            raise InvalidParameter(
                f"deployment '{target.deployment}' computes '{task}', the route wants '{wanted.task}'",
                param="targets",
            )
    if len(set(wanted.targets)) != len(wanted.targets):
        raise InvalidParameter(
            "a target is named twice: name each once, in order of preference", param="targets"
        )


def _target_row(
    route_id: str, position: int, target: EngineTargetSpec | ProviderTargetSpec, found: dict[str, Deployment]
) -> RouteTarget:
    if isinstance(target, EngineTargetSpec):
        return RouteTarget(
            route_id=route_id, position=position, kind=target.kind, deployment_id=found[target.deployment].id
        )
    return RouteTarget(
        route_id=route_id,
        position=position,
        kind=target.kind,
        provider=target.provider,
        model=target.model,
        base_url=target.base_url,
        price=target.price.model_dump(mode="json") if target.price else None,
    )
