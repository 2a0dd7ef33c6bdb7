"""Every SQL statement about keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select

from control_api.auth.subject import Subject
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.pagination import Window
from control_api.kit.repository import fetch_window, visible_to
from control_api.models import Key


async def by_hash(session: ReadSession, key_hash: str) -> Key | None:
    """The key with that hash, revoked or not."""
    return await session.one_or_none(select(Key).where(Key.key_hash == key_hash))


async def window(session: ReadSession, subject: Subject, window: Window) -> tuple[Sequence[Key], str | None]:
    """One page of the visible keys."""
    return await fetch_window(session, visible_to(Key, subject), Key, window)


async def lock(session: WriteSession, subject: Subject, key_id: str) -> Key | None:
    """A visible key, locked until the transaction ends."""
    return await session.one_or_none(visible_to(Key, subject).where(Key.id == key_id).with_for_update())


async def live(session: ReadSession, at: datetime) -> Sequence[Key]:
    """Every key that works at that moment, oldest first."""
    statement = select(Key).where(
        Key.revoked_at.is_(None), or_(Key.expires_at.is_(None), Key.expires_at > at)
    )
    return await session.all(statement.order_by(Key.id))


async def lock_live_admins(session: WriteSession, organization_id: str, at: datetime) -> Sequence[str]:
    """Ids of the working keys that may administer an organisation, locked so that two callers see each other."""
    statement = select(Key.id).where(
        Key.organization_id == organization_id,
        Key.scopes.contains(["admin"]),
        Key.revoked_at.is_(None),
        or_(Key.expires_at.is_(None), Key.expires_at > at),
    )
    return await session.all(statement.order_by(Key.id).with_for_update())
