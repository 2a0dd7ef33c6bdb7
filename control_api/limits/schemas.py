"""Rows of limits as the API and the snapshot show them."""

from __future__ import annotations

from control_api.models import Limit
from foundry.types.control import LimitRead
from foundry.types.limits import LimitEntry


def limit_entry(row: Limit) -> LimitEntry:
    """The contract inside a row."""
    return LimitEntry.model_validate(row.spec)


def limit_read(row: Limit) -> LimitRead:
    """The view of a row."""
    return LimitRead.model_validate(
        {
            "id": row.id,
            "project_id": row.project_id,
            "name": row.name,
            "source": row.source,
            "spec": row.spec,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
    )
