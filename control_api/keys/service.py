"""What can be done with keys: make, authenticate, revoke.

What it does not know: HTTP, SQL. A revoked key stays as a row, so that nothing brings it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from control_api.auth.subject import Subject
from control_api.guardrails import service as guardrails
from control_api.keys import repository
from control_api.kit.changes import Topic, announce
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.findings import refuse
from control_api.kit.pagination import Window
from control_api.models import Key
from foundry.declare import rules
from foundry.declare.rules import World
from foundry.errors import AuthenticationFailed, Conflict, InvalidParameter, NotFound
from foundry.gateway.keys import KEY_PREFIX, display_prefix, hash_key, new_key
from foundry.telemetry import new_id
from foundry.types.control import KeyCreate

log = structlog.get_logger(__name__)


async def authenticate(session: ReadSession, pepper: bytes, secret: str) -> Key:
    """The working key behind a secret. Raises AuthenticationFailed."""
    if not secret.startswith(KEY_PREFIX):
        raise AuthenticationFailed(f"the bearer is not a virtual key: keys start with {KEY_PREFIX}")
    row = await repository.by_hash(session, hash_key(pepper, secret))
    if row is None:
        raise AuthenticationFailed("unknown key")
    if row.revoked_at is not None:
        raise AuthenticationFailed(f"the key {row.prefix}... was revoked")
    if row.expires_at is not None and row.expires_at <= datetime.now(UTC):
        raise AuthenticationFailed(f"the key {row.prefix}... expired at {row.expires_at.isoformat()}")
    return row


async def create(
    session: WriteSession, subject: Subject, pepper: bytes, wanted: KeyCreate
) -> tuple[Key, str]:
    """Make a key in the subject's project; the row, and the key in clear for the only time."""
    if wanted.expires_at is not None and wanted.expires_at <= datetime.now(UTC):
        raise InvalidParameter(
            f"expires_at {wanted.expires_at.isoformat()} lies in the past", param="expires_at"
        )
    refuse(rules.profiles(wanted.guardrails, World(profiles=await guardrails.names(session))))
    secret = new_key()
    row = _row(
        secret,
        pepper,
        name=wanted.name,
        organization_id=subject.organization_id,
        project_id=subject.project_id,
    )
    row.scopes = list(dict.fromkeys(wanted.scopes))
    row.allowed_routes = None if wanted.allowed_routes is None else list(dict.fromkeys(wanted.allowed_routes))
    row.expires_at = wanted.expires_at
    row.guardrails = list(dict.fromkeys(wanted.guardrails))
    await session.insert(row)
    await announce(session, Topic.SERVING)
    return row, secret


async def ensure_admin(
    session: WriteSession, pepper: bytes, secret: str, *, organization_id: str, project_id: str
) -> None:
    """Know the key of the secret file `admin.key`. One that was revoked stays revoked."""
    known = await repository.by_hash(session, hash_key(pepper, secret))
    if known is not None:
        if known.revoked_at is not None:
            log.warning(
                "admin_key_revoked",
                key_id=known.id,
                next_step="put another key into the secret file admin.key",
            )
        return
    row = _row(secret, pepper, name="admin", organization_id=organization_id, project_id=project_id)
    row.scopes = ["inference", "admin"]
    await session.insert(row)
    await announce(session, Topic.SERVING)


async def list_visible(
    session: ReadSession, subject: Subject, window: Window
) -> tuple[Sequence[Key], str | None]:
    """One page of the keys that the subject may see, revoked ones included."""
    return await repository.window(session, subject, window)


async def revoke(session: WriteSession, subject: Subject, key_id: str) -> None:
    """Stop a key for good; again is harmless. Raises NotFound, and Conflict for the last key that can administer."""
    now = datetime.now(UTC)
    admins = await repository.lock_live_admins(session, subject.organization_id, now)
    row = await repository.lock(session, subject, key_id)
    if row is None:
        raise NotFound(f"no key {key_id}")
    if row.revoked_at is not None:
        return
    if list(admins) == [row.id]:
        raise Conflict(f"{key_id} is the last key with the scope admin: make another one first")
    row.revoked_at = now
    await session.flush()
    await announce(session, Topic.SERVING)


async def list_live(session: ReadSession) -> Sequence[Key]:
    """Every working key of the instance, for the snapshot."""
    return await repository.live(session, datetime.now(UTC))


def _row(secret: str, pepper: bytes, *, name: str, organization_id: str, project_id: str) -> Key:
    return Key(
        id=new_id("key"),
        organization_id=organization_id,
        project_id=project_id,
        name=name,
        prefix=display_prefix(secret),
        key_hash=hash_key(pepper, secret),
    )
