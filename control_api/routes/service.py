"""What can be done with routes: make, replace, delete; and what the configuration file declares of them.

What it does not know: HTTP, SQL, how a gateway chooses among targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from control_api.auth.subject import Subject
from control_api.deployments import service as deployments
from control_api.kit.changes import Topic, announce
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.findings import refuse
from control_api.kit.named import lock_configuration, refuse_if_declared
from control_api.kit.pagination import Window
from control_api.kit.repository import sees
from control_api.models import Deployment, Route, RouteTarget
from control_api.models.base import FROM_API, FROM_FILE, now
from control_api.providers import service as providers
from control_api.routes import repository
from control_api.routes.schemas import route_write
from foundry.declare import rules
from foundry.declare.check import guard_check
from foundry.declare.rules import Deployed, World
from foundry.errors import Conflict, NotFound
from foundry.telemetry import new_id
from foundry.types.control import EngineTargetSpec, RouteWrite, TargetShare, TargetSpec
from foundry.types.deployment import Task


async def put(session: WriteSession, subject: Subject, name: str, wanted: RouteWrite) -> Route:
    """Make or replace a route. Raises InvalidParameter for what cannot hold, Conflict for a name that is taken or the file's."""
    await lock_configuration(session)
    row = await repository.lock_any(session, name)
    if row is not None:
        if not sees(subject, row):
            raise Conflict(f"the route name '{name}' is taken: choose another")
        refuse_if_declared("route", name, row.source)
    engines = [target.deployment for target in wanted.targets if isinstance(target, EngineTargetSpec)]
    found = await deployments.lock_for_routes(session, subject, engines)
    there = await world(session, {name: deployed(row) for name, row in found.items()})
    refuse(rules.route(name, wanted, there))
    refuse(finding for _name, finding in rules.cycles({**there.routes, name: wanted}))
    row = await _write(session, subject, name, wanted, row, found, source=FROM_API)
    await announce(session, Topic.SERVING)
    return row


async def declare(session: WriteSession, owner: Subject, wanted: Mapping[str, RouteWrite]) -> list[str]:
    """Make the file's routes these and no others; names taken over from calls. The file was checked before.

    A target may name a deployment that does not exist yet: it is joined to it when that is made.
    """
    await repository.remove_declared(session, list(wanted))
    found = {row.name: row for row in await deployments.list_all(session) if row.deleting_at is None}
    there = {row.name: row for row in await repository.everything(session)}
    taken: list[str] = []
    for name, route in wanted.items():
        row = there.get(name)
        if row is not None and row.source != FROM_FILE:
            taken.append(name)
        elif row is not None and route_write(row) == route and not _can_join(row, found):
            continue
        await _write(session, owner, name, route, row, found, source=FROM_FILE)
    return taken


def _can_join(row: Route, found: Mapping[str, Deployment]) -> bool:
    """Whether a target waits for a deployment that is there by now."""
    return any(target.deployment_id is None and target.deployment_name in found for target in row.targets)


async def world(session: ReadSession, known: Mapping[str, Deployed] | None = None) -> World:
    """What the configuration of this instance may refer to. known: deployments, where they matter."""
    return World(
        routes={row.name: route_write(row) for row in await repository.everything(session)},
        profiles=await repository.profile_names(session),
        providers=await providers.names(session),
        deployments=known,
        check_guard=guard_check(),
    )


def deployed(row: Deployment) -> Deployed:
    """What a route must know of a deployment."""
    return Deployed(Task(row.spec["task"]), tuple(row.spec.get("adapters", ())))


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
    """Delete a route. Raises NotFound, and Conflict for what the file declares or something names."""
    await lock_configuration(session)
    row = await repository.lock_any(session, name)
    if row is None or not sees(subject, row):
        raise NotFound(f"no route '{name}'")
    refuse_if_declared("route", name, row.source)
    users = await repository.users_of(session, name)
    if users:
        raise Conflict(f"the route '{name}' is named by {', '.join(users)}: change those first")
    await repository.replace_targets(session, row.id, [])
    await session.delete(row)
    await announce(session, Topic.SERVING)


async def list_all(session: ReadSession) -> Sequence[Route]:
    """Every route of the instance, for the snapshot."""
    return await repository.everything(session)


async def _write(
    session: WriteSession,
    owner: Subject,
    name: str,
    wanted: RouteWrite,
    row: Route | None,
    found: Mapping[str, Deployment],
    *,
    source: str,
) -> Route:
    if row is None:
        row = Route(
            id=new_id("rte"), organization_id=owner.organization_id, project_id=owner.project_id, name=name
        )
        _fill(row, wanted, source)
        await session.insert(row)
    else:
        _fill(row, wanted, source)
        await session.flush()
    targets = [_target_row(row.id, place, target, found) for place, target in enumerate(wanted.targets)]
    await repository.replace_targets(session, row.id, targets)
    return row


def _fill(row: Route, wanted: RouteWrite, source: str) -> None:
    row.task, row.source, row.updated_at = wanted.task.value, source, now()
    row.routing = wanted.routing.model_dump(mode="json")
    row.guardrails = list(dict.fromkeys(wanted.guardrails))
    row.cache = wanted.cache.model_dump(mode="json") if wanted.cache else None


def _target_row(
    route_id: str, position: int, target: TargetSpec, found: Mapping[str, Deployment]
) -> RouteTarget:
    share = target.model_dump(mode="json", include=set(TargetShare.model_fields), exclude_defaults=True)
    if isinstance(target, EngineTargetSpec):
        deployment = found.get(target.deployment)
        return RouteTarget(
            route_id=route_id,
            position=position,
            kind=target.kind,
            deployment_id=deployment.id if deployment else None,
            deployment_name=target.deployment,
            model=target.adapter,
            share=share,
        )
    return RouteTarget(
        route_id=route_id,
        position=position,
        kind=target.kind,
        provider=target.provider,
        model=target.model,
        base_url=target.base_url,
        price=target.price.model_dump(mode="json") if target.price else None,
        share=share,
    )
