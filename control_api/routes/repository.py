"""Every SQL statement about routes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, delete, or_, select
from sqlalchemy.orm import selectinload

from control_api.auth.subject import Subject
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.pagination import Window
from control_api.kit.repository import fetch_window, visible_to
from control_api.models import Block, Guardrail, Limit, Route, RouteTarget
from control_api.models.base import FROM_FILE


def _loaded(statement: Select[Route]) -> Select[Route]:
    loaded = statement.options(selectinload(Route.targets).joinedload(RouteTarget.deployment))
    return loaded.execution_options(
        populate_existing=True
    )  # targets may have been replaced since they were read


async def window(
    session: ReadSession, subject: Subject, window: Window
) -> tuple[Sequence[Route], str | None]:
    """One page of the visible routes, targets loaded."""
    return await fetch_window(session, _loaded(visible_to(Route, subject)), Route, window)


async def by_name(session: ReadSession, subject: Subject, name: str) -> Route | None:
    """The visible route of that name, targets loaded."""
    return await session.one_or_none(_loaded(visible_to(Route, subject).where(Route.name == name)))


async def lock_any(session: WriteSession, name: str) -> Route | None:
    """The route of that name, whoever owns it (names are unique on the instance), locked for this transaction."""
    return await session.one_or_none(select(Route).where(Route.name == name).with_for_update())


async def replace_targets(session: WriteSession, route_id: str, targets: Sequence[RouteTarget]) -> None:
    """Put these targets in place of the route's present ones."""
    await session.execute(delete(RouteTarget).where(RouteTarget.route_id == route_id))
    await session.insert(*targets)


async def users_of(session: ReadSession, name: str) -> Sequence[str]:
    """Routes, limits and blocking rules that name a route, for a person: "route chat", "limit daily"."""
    fallbacks = Route.routing["fallbacks"].contains([name])
    overflow = Route.routing["hold"]["overflow_route"].astext == name
    semantic = Route.cache["semantic"]["embedding_route"].astext == name
    routes = await session.all(
        select(Route.name).where(or_(fallbacks, overflow, semantic), Route.name != name).order_by(Route.name)
    )
    limits = await session.all(
        select(Limit.name).where(Limit.spec["routes"].contains([name])).order_by(Limit.name)
    )
    blocks = await session.all(
        select(Block.name).where(Block.spec["routes"].contains([name])).order_by(Block.name)
    )
    return [
        *(f"route {user}" for user in routes),
        *(f"limit {user}" for user in limits),
        *(f"blocking rule {user}" for user in blocks),
    ]


async def profile_names(session: ReadSession) -> Sequence[str]:
    """Names of every guardrail profile of the instance: what routes may name."""
    return await session.all(select(Guardrail.name))


async def remove_declared(session: WriteSession, kept: Sequence[str]) -> None:
    """Delete the file's routes but those of these names."""
    gone = select(Route.id).where(Route.source == FROM_FILE, Route.name.not_in(kept))
    await session.execute(delete(RouteTarget).where(RouteTarget.route_id.in_(gone)))
    await session.execute(delete(Route).where(Route.source == FROM_FILE, Route.name.not_in(kept)))


async def everything(session: ReadSession) -> Sequence[Route]:
    """Every route of the instance by name, targets loaded: for the snapshot."""
    return await session.all(_loaded(select(Route).order_by(Route.name)))
