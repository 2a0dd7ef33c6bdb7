"""Every SQL statement about providers: the operator's rows and prices, as the configuration file in force has them."""

from __future__ import annotations

from sqlalchemy import select

from control_api.kit.db import ReadSession
from control_api.models import GatewayFileState


async def in_force(session: ReadSession) -> GatewayFileState | None:
    """What was read of the configuration file."""
    return await session.one_or_none(select(GatewayFileState).limit(1))
