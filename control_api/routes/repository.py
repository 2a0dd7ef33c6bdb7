"""Every SQL statement about routes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import selectinload

from control_api.auth.subject import Subject
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.pagination import Window
from control_api.kit.repository import fetch_window, visible_to
from control_api.models import Route, RouteTarget


def _loaded(statement: Select[Route]) -> Select[Route]:
    return statement.options(selectinload(Route.targets).joinedload(RouteTarget.deployment))


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


async def everything(session: ReadSession) -> Sequence[Route]:
    """Every route of the instance by name, targets loaded: for the snapshot."""
    return await session.all(_loaded(select(Route).order_by(Route.name)))
