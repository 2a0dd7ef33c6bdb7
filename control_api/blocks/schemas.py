"""Rows of blocks as the API and the snapshot show them."""

from __future__ import annotations

from control_api.models import Block
from foundry.types.control import BlockRead
from foundry.types.guardrails import BlockRule


def block_entry(row: Block) -> BlockRule:
    """The contract inside a row."""
    return BlockRule.model_validate(row.spec)


def block_read(row: Block) -> BlockRead:
    """The view of a row."""
    return BlockRead.model_validate(
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
