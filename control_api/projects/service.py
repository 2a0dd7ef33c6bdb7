"""What can be done with projects.

What it does not know: HTTP, SQL.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_api.auth.subject import Subject
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.pagination import Window
from control_api.models import Project
from control_api.projects import repository
from foundry.telemetry import new_id


async def list_visible(
    session: ReadSession, subject: Subject, window: Window
) -> tuple[Sequence[Project], str | None]:
    """One page of the projects that the subject may see."""
    return await repository.window(session, subject, window)


async def ensure(session: WriteSession, organization_id: str, name: str) -> Project:
    """The project of that name, made if there is none."""
    row = await repository.by_name(session, organization_id, name)
    if row is None:
        row = Project(id=new_id("prj"), organization_id=organization_id, name=name)
        await session.insert(row)
    return row
