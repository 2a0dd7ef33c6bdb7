"""Rows of guardrails as the API and the snapshot show them."""

from __future__ import annotations

from control_api.models import Guardrail
from foundry.types.control import GuardrailRead
from foundry.types.guardrails import GuardrailProfile


def guardrail_entry(row: Guardrail) -> GuardrailProfile:
    """The contract inside a row."""
    return GuardrailProfile.model_validate(row.spec)


def guardrail_read(row: Guardrail) -> GuardrailRead:
    """The view of a row."""
    return GuardrailRead.model_validate(
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
