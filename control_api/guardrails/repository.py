"""Every SQL statement about guardrails: those that all named nouns share, and who uses a profile."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from control_api.kit.db import ReadSession
from control_api.kit.named import NamedNoun
from control_api.models import Guardrail, Key, Route

rows = NamedNoun(Guardrail, "guardrail profile", "grd")


async def users_of(session: ReadSession, name: str) -> Sequence[str]:
    """Routes and working keys that name a profile, for a person: "route chat", "key ci"."""
    routes = await session.all(
        select(Route.name).where(Route.guardrails.contains([name])).order_by(Route.name)
    )
    keys = await session.all(
        select(Key.name).where(Key.guardrails.contains([name]), Key.revoked_at.is_(None)).order_by(Key.name)
    )
    return [*(f"route {route}" for route in routes), *(f"key {key}" for key in keys)]
