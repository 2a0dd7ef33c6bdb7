"""Every SQL statement about projects."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from control_api.auth.subject import Subject
from control_api.kit.db import ReadSession
from control_api.kit.pagination import Window
from control_api.kit.repository import fetch_window, visible_to
from control_api.models import Project


async def by_name(session: ReadSession, organization_id: str, name: str) -> Project | None:
    """The project of that name in an organisation."""
    statement = select(Project).where(Project.organization_id == organization_id, Project.name == name)
    return await session.one_or_none(statement)


async def window(
    session: ReadSession, subject: Subject, window: Window
) -> tuple[Sequence[Project], str | None]:
    """One page of the visible projects."""
    return await fetch_window(session, visible_to(Project, subject), Project, window)
