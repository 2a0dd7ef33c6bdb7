"""Rows of keys as the API shows them: never with the hash."""

from __future__ import annotations

from control_api.models import Key
from foundry.types.control import KeyCreated, KeyRead


def key_read(row: Key) -> KeyRead:
    """The view of a row."""
    return KeyRead(
        id=row.id,
        organization_id=row.organization_id,
        project_id=row.project_id,
        name=row.name,
        prefix=row.prefix,
        scopes=tuple(row.scopes),
        allowed_routes=None if row.allowed_routes is None else tuple(row.allowed_routes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        guardrails=tuple(row.guardrails),
    )


def key_created(row: Key, key: str) -> KeyCreated:
    """The view of a new row, with the key in clear."""
    return KeyCreated(**key_read(row).model_dump(), key=key)
