"""Rows of projects as the API shows them."""

from __future__ import annotations

from control_api.models import Project
from foundry.types.control import ProjectRead


def project_read(row: Project) -> ProjectRead:
    """The view of a row."""
    return ProjectRead(
        id=row.id, organization_id=row.organization_id, name=row.name, created_at=row.created_at
    )
