"""Every SQL statement about the configuration file's state."""

from __future__ import annotations

from sqlalchemy import select

from control_api.kit.db import ReadSession
from control_api.models import GatewayFileState


async def of_cluster(session: ReadSession, cluster: str) -> GatewayFileState | None:
    """What became of the file of a cluster."""
    return await session.one_or_none(select(GatewayFileState).where(GatewayFileState.cluster == cluster))
