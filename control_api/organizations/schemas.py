"""Rows of organisations as the API shows them."""

from __future__ import annotations

from control_api.models import Organization
from foundry.types.control import OrganizationRead


def organization_read(row: Organization) -> OrganizationRead:
    """The view of a row."""
    return OrganizationRead(id=row.id, name=row.name, created_at=row.created_at)
