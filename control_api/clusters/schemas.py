"""What the reconciler knows of clusters and gateways, and how the API shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from control_api.models import Cluster
from foundry.types.control import ClusterRead, GatewayRead

GatewayPhase = Literal["absent", "starting", "running", "degraded", "failed", "deleting"]
GATEWAY_NAME = "gateway"


class GatewayStatus(BaseModel):
    """The gateway application as Ray Serve reports it; stored as JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: GatewayPhase = "absent"
    ready_replicas: int = Field(default=0, ge=0)
    target_replicas: int = Field(default=0, ge=0)
    message: str = ""


def gateway_read(row: Cluster) -> GatewayRead:
    """The view of a cluster's gateway."""
    state = GatewayStatus.model_validate(row.gateway)
    return GatewayRead(cluster=row.name, name=GATEWAY_NAME, updated_at=row.updated_at, **state.model_dump())


def cluster_read(row: Cluster, snapshot_version: int | None) -> ClusterRead:
    """The view of a row."""
    return ClusterRead(
        name=row.name,
        reachable=row.reachable,
        message=row.message,
        snapshot_version=snapshot_version,
        updated_at=row.updated_at,
    )
