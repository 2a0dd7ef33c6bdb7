"""Every SQL statement about organisations."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from control_api.kit.db import ReadSession
from control_api.models import Organization


async def by_name(session: ReadSession, name: str) -> Organization | None:
    """The organisation of that name."""
    return await session.one_or_none(select(Organization).where(Organization.name == name))


async def of_viewer(session: ReadSession, organization_id: str) -> Sequence[Organization]:
    """What a member sees: its own organisation."""
    return await session.all(select(Organization).where(Organization.id == organization_id))
