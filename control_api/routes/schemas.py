"""Rows of routes as the API shows them."""

from __future__ import annotations

from control_api.models import Route, RouteTarget
from foundry.types.control import EngineTargetSpec, ProviderTargetSpec, RouteRead
from foundry.types.deployment import Task
from foundry.types.money import Price


def target_spec(row: RouteTarget) -> EngineTargetSpec | ProviderTargetSpec:
    """A target as it was asked for; its deployment must be loaded."""
    if row.deployment is not None:
        return EngineTargetSpec(deployment=row.deployment.name)
    return ProviderTargetSpec(
        provider=row.provider or "",
        model=row.model or "",
        base_url=row.base_url,
        price=Price.model_validate(row.price) if row.price is not None else None,
    )


def route_read(
    row: Route, targets: tuple[EngineTargetSpec | ProviderTargetSpec, ...] | None = None
) -> RouteRead:
    """The view of a row; `targets` when they are known and not loaded."""
    return RouteRead(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        task=Task(row.task),
        targets=targets if targets is not None else tuple(target_spec(target) for target in row.targets),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
