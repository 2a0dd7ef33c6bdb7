"""Rows of routes as the API shows them and as they were asked for."""

from __future__ import annotations

from control_api.models import Route, RouteTarget
from control_api.models.base import FROM_FILE
from foundry.types.cache import CachePolicy
from foundry.types.control import EngineTargetSpec, ProviderTargetSpec, RouteRead, RouteWrite, TargetSpec
from foundry.types.deployment import Task
from foundry.types.money import Price
from foundry.types.routing import Routing


def target_spec(row: RouteTarget) -> TargetSpec:
    """A target as it was asked for."""
    if row.deployment_name is not None:
        return EngineTargetSpec(deployment=row.deployment_name, adapter=row.model, **row.share)
    return ProviderTargetSpec(
        provider=row.provider or "",
        model=row.model or "",
        base_url=row.base_url,
        price=Price.model_validate(row.price) if row.price is not None else None,
        **row.share,
    )


def route_write(row: Route) -> RouteWrite:
    """A route as it was asked for; its targets must be loaded."""
    return RouteWrite(
        task=Task(row.task),
        targets=tuple(target_spec(target) for target in row.targets),
        routing=Routing.model_validate(row.routing),
        guardrails=tuple(row.guardrails),
        cache=cache_policy(row),
    )


def cache_policy(row: Route) -> CachePolicy | None:
    """The answer cache of a route."""
    return None if row.cache is None else CachePolicy.model_validate(row.cache)


def route_read(row: Route, targets: tuple[TargetSpec, ...] | None = None) -> RouteRead:
    """The view of a row; `targets` when they are known and not loaded."""
    return RouteRead(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        task=Task(row.task),
        targets=targets if targets is not None else tuple(target_spec(target) for target in row.targets),
        routing=Routing.model_validate(row.routing),
        guardrails=tuple(row.guardrails),
        cache=cache_policy(row),
        source="file" if row.source == FROM_FILE else "api",
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
