"""Rows of deployments as the API shows them."""

from __future__ import annotations

from control_api.models import Deployment
from foundry.types.control import DeploymentRead
from foundry.types.deployment import DeploymentSpec, DeploymentStatus


def deployment_read(row: Deployment) -> DeploymentRead:
    """The view of a row."""
    return DeploymentRead(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        spec=DeploymentSpec.model_validate(row.spec),
        generation=row.generation,
        observed_generation=row.observed_generation,
        status=DeploymentStatus.model_validate(row.status),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
