"""`/v1/clusters` and `/v1/gateways`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.clusters import service
from control_api.clusters.schemas import cluster_read, gateway_read
from control_api.kit.repository import page
from control_api.kit.runtime import Reading
from foundry.types.control import ClusterRead, GatewayRead, Page

router = APIRouter(prefix="/v1", tags=["clusters"])
Reader = Annotated[Subject, Depends(require("clusters:read"))]


@router.get("/clusters")
async def list_clusters(_subject: Reader, session: Reading) -> Page[ClusterRead]:
    """Ray clusters: whether they answer, and the snapshot that is published for them."""
    return page([cluster_read(row, version) for row, version in await service.list_all(session)], None)


@router.get("/gateways")
async def list_gateways(_subject: Reader, session: Reading) -> Page[GatewayRead]:
    """The gateway of each cluster, as Ray Serve reports it."""
    return page([gateway_read(row) for row, _version in await service.list_all(session)], None)
