"""`/v1/providers`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.kit.repository import page
from control_api.kit.runtime import Reading
from control_api.providers import service
from control_api.providers.schemas import provider_read
from foundry.types.control import Page, ProviderRead

router = APIRouter(prefix="/v1/providers", tags=["providers"])
Reader = Annotated[Subject, Depends(require("providers:read"))]


@router.get("")
async def list_providers(_subject: Reader, session: Reading) -> Page[ProviderRead]:
    """Vendors, and whether the variable with their API key is set."""
    return page([provider_read(*row) for row in await service.list_all(session)], None)
