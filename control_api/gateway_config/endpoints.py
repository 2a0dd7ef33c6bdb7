"""`/v1/gateway/config`: what became of the configuration file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.gateway_config import service
from control_api.gateway_config.schemas import config_read
from control_api.kit.runtime import Reading, RuntimeOf
from foundry.types.control import GatewayConfigRead

router = APIRouter(prefix="/v1/gateway/config", tags=["gateway configuration"])
Reader = Annotated[Subject, Depends(require("configuration:read"))]


@router.get("")
async def get_gateway_config(_subject: Reader, session: Reading, runtime: RuntimeOf) -> GatewayConfigRead:
    """Which file is in force since when, and every problem of the file as it is now, with line and column."""
    settings = runtime.settings
    return config_read(await service.state(session, settings.gateway.cluster), settings.config_file)
