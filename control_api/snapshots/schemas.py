"""Rows of keys, routes and deployments as parts of a snapshot. Pure functions.

What it does not know: versions, signatures, SQL.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from control_api.models import Deployment, Key, Route, RouteTarget, StoredSnapshot
from control_api.models.base import FROM_FILE
from foundry.pricing.book import PriceBook
from foundry.types.cache import CachePolicy
from foundry.types.control import EngineTargetSpec
from foundry.types.deployment import DeploymentPhase, DeploymentSpec, DeploymentStatus, Task
from foundry.types.money import Price
from foundry.types.routing import Routing
from foundry.types.snapshot import (
    EngineTarget,
    KeyEntry,
    ProviderTarget,
    RouteEntry,
    SignedSnapshot,
    Snapshot,
)

_ETA_STEP_S = 5
"""ETAs are rounded up to it, so that a ticking clock does not publish a snapshot every second."""


def key_entry(row: Key) -> KeyEntry:
    """A working key."""
    return KeyEntry(
        key_id=row.id,
        key_hash=row.key_hash,
        organization_id=row.organization_id,
        project_id=row.project_id,
        scopes=tuple(row.scopes),
        allowed_routes=None if row.allowed_routes is None else tuple(row.allowed_routes),
        expires_at=row.expires_at,
        guardrails=tuple(row.guardrails),
    )


def route_entry(row: Route, engine_root: str, prices: PriceBook, at: datetime) -> RouteEntry:
    """A route; its targets and their deployments must be loaded.

    Vendor targets without a price of their own get the one that `prices` knows at `at`.

    Routes of the configuration file are visible to every project, others to their own.
    """
    targets: list[EngineTarget | ProviderTarget] = []
    for row_target in row.targets:
        target = _target(row_target, engine_root, prices, at)
        taken = {other.target_id for other in targets}
        if target.target_id in taken:  # one vendor's model at two addresses
            target = target.model_copy(update={"target_id": f"{target.target_id}#{row_target.position + 1}"})
        targets.append(target)
    return RouteEntry(
        name=row.name,
        task=Task(row.task),
        targets=tuple(targets),
        created_at=row.created_at,
        project_ids=None if row.source == FROM_FILE else (row.project_id,),
        routing=Routing.model_validate(row.routing),
        guardrails=tuple(row.guardrails),
        cache=None if row.cache is None else CachePolicy.model_validate(row.cache),
    )


def _target(
    row: RouteTarget, engine_root: str, prices: PriceBook, at: datetime
) -> EngineTarget | ProviderTarget:
    if row.deployment is not None:
        return engine_target(row.deployment, engine_root, row.model, row.share)
    if row.deployment_name is not None:
        return _missing_engine(row.deployment_name, engine_root, row.model, row.share)
    provider, model = row.provider or "", row.model or ""
    explicit = Price.model_validate(row.price) if row.price is not None else None
    return ProviderTarget(
        target_id=f"{provider}/{model}",
        provider=provider,
        model=model,
        base_url=row.base_url,
        price=explicit or prices.lookup(provider, model, at),
        **row.share,
    )


def engine_target(
    row: Deployment, engine_root: str, adapter: str | None, share: Mapping[str, Any]
) -> EngineTarget:  # Any: TargetShare as JSON
    """A deployment as a target: where it is, what to ask it for, and how far it has come."""
    spec = DeploymentSpec.model_validate(row.spec)
    status = DeploymentStatus.model_validate(row.status)
    phase = DeploymentPhase.DELETING if row.deleting_at is not None else status.phase
    return EngineTarget(
        target_id=EngineTargetSpec(deployment=row.name, adapter=adapter).target_id,
        deployment=row.name,
        base_url=f"{engine_root}/engines/{row.name}",
        model=adapter or spec.served_model_name,
        phase=phase,
        phase_detail=status.detail,
        eta_s=_rounded_eta(status.eta_s),
        price=spec.price,
        **share,
    )


def _missing_engine(
    name: str, engine_root: str, adapter: str | None, share: Mapping[str, Any]
) -> EngineTarget:  # Any: as above
    """A deployment that the configuration file names and nobody has made: not ready, and it says why."""
    return EngineTarget(
        target_id=EngineTargetSpec(deployment=name, adapter=adapter).target_id,
        deployment=name,
        base_url=f"{engine_root}/engines/{name}",
        model=adapter or name,
        phase=DeploymentPhase.QUEUED,
        phase_detail="no such deployment has been made yet",
        **share,
    )


def _rounded_eta(eta_s: float | None) -> float | None:
    return None if eta_s is None else float(math.ceil(eta_s / _ETA_STEP_S) * _ETA_STEP_S)


def content_hash(snapshot: Snapshot, signing_key_id: str) -> str:
    """SHA-256 of all that a gateway would notice: everything but the version and the time."""
    content = snapshot.model_dump(mode="json", exclude={"version", "issued_at"})
    content["signing_key_id"] = signing_key_id
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def signed_snapshot(row: StoredSnapshot) -> SignedSnapshot:
    """The stored snapshot exactly as it was signed."""
    return SignedSnapshot(payload=row.payload, signature=row.signature, key_id=row.key_id)
