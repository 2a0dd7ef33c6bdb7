"""Every SQL statement about deployments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import selectinload

from control_api.auth.subject import Subject
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.pagination import Window
from control_api.kit.repository import fetch_window, visible_to
from control_api.models import Deployment, Route, RouteTarget
from control_api.models.base import now


async def window(
    session: ReadSession, subject: Subject, window: Window
) -> tuple[Sequence[Deployment], str | None]:
    """One page of the visible deployments."""
    return await fetch_window(session, visible_to(Deployment, subject), Deployment, window)


async def by_name(session: ReadSession, subject: Subject, name: str) -> Deployment | None:
    """The visible deployment of that name."""
    return await session.one_or_none(visible_to(Deployment, subject).where(Deployment.name == name))


async def lock_any(session: WriteSession, name: str) -> Deployment | None:
    """The deployment of that name, whoever owns it (names are unique on the cluster), locked for this transaction."""
    return await session.one_or_none(select(Deployment).where(Deployment.name == name).with_for_update())


async def lock_shared(session: WriteSession, subject: Subject, names: Sequence[str]) -> Sequence[Deployment]:
    """Visible deployments of those names, kept from being deleted while this transaction lasts."""
    statement = visible_to(Deployment, subject).where(Deployment.name.in_(names))
    return await session.all(statement.order_by(Deployment.id).with_for_update(read=True))


async def everything(session: ReadSession) -> Sequence[Deployment]:
    """Every deployment of the instance, by name: for the reconciler and the snapshot."""
    return await session.all(select(Deployment).order_by(Deployment.name))


async def routes_to(session: ReadSession, deployment_id: str) -> Sequence[str]:
    """Names of the routes that target a deployment."""
    statement = select(Route.name).join(RouteTarget).where(RouteTarget.deployment_id == deployment_id)
    return await session.all(statement.distinct().order_by(Route.name))


async def wanted_of(session: ReadSession, name: str) -> Sequence[tuple[str, str, str | None]]:
    """Route, task and adapter of every target that names a deployment, whether it exists or not."""
    statement = select(Route).where(Route.targets.any(RouteTarget.deployment_name == name))
    routes = await session.all(statement.options(selectinload(Route.targets)).order_by(Route.name))
    return [
        (route.name, route.task, target.model)
        for route in routes
        for target in route.targets
        if target.deployment_name == name
    ]


async def adopt_targets(session: WriteSession, deployment_id: str, name: str) -> None:
    """Join the targets that waited for a deployment of that name to it."""
    statement = (
        update(RouteTarget)
        .where(RouteTarget.deployment_name == name, RouteTarget.deployment_id.is_(None))
        .values(deployment_id=deployment_id)
    )
    await session.execute(statement)


async def write_status(
    session: WriteSession,
    deployment_id: str,
    row_version: int,
    status: dict[str, Any],  # Any: DeploymentStatus as JSON
    observed_generation: int,
) -> bool:
    """Write what was observed, unless the row changed since it was read; whether it was written."""
    statement = (
        update(Deployment)
        .where(Deployment.id == deployment_id, Deployment.row_version == row_version)
        .values(
            status=status,
            observed_generation=observed_generation,
            row_version=row_version + 1,
            updated_at=now(),
        )
    )
    return await session.execute(statement) == 1


async def remove(session: WriteSession, deployment_id: str, row_version: int) -> bool:
    """Delete the row, unless it changed since it was read; whether it is gone by this."""
    statement = delete(Deployment).where(
        Deployment.id == deployment_id, Deployment.row_version == row_version
    )
    return await session.execute(statement) == 1
