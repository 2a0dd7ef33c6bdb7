"""`/v1/organizations`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.kit.repository import page
from control_api.kit.runtime import Reading
from control_api.organizations import service
from control_api.organizations.schemas import organization_read
from foundry.types.control import OrganizationRead, Page

router = APIRouter(prefix="/v1/organizations", tags=["organizations"])
Reader = Annotated[Subject, Depends(require("organizations:read"))]


@router.get("")
async def list_organizations(subject: Reader, session: Reading) -> Page[OrganizationRead]:
    """The organisations that the caller may see."""
    return page([organization_read(row) for row in await service.list_visible(session, subject)], None)
