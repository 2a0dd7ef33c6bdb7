"""`/v1/projects`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.kit.pagination import Paginated
from control_api.kit.repository import page
from control_api.kit.runtime import Reading
from control_api.projects import service
from control_api.projects.schemas import project_read
from foundry.types.control import Page, ProjectRead

router = APIRouter(prefix="/v1/projects", tags=["projects"])
Reader = Annotated[Subject, Depends(require("projects:read"))]


@router.get("")
async def list_projects(subject: Reader, session: Reading, window: Paginated) -> Page[ProjectRead]:
    """The projects that the caller may see."""
    rows, next_cursor = await service.list_visible(session, subject, window)
    return page([project_read(row) for row in rows], next_cursor)
