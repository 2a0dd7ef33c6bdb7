"""`/v1/snapshots`: what gateways poll. Their bearer is the cluster token, not a virtual key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response, status

from control_api.auth.dependencies import require_cluster
from control_api.kit.runtime import RuntimeOf
from control_api.snapshots import service
from foundry.types.snapshot import SignedSnapshot

router = APIRouter(prefix="/v1/snapshots", tags=["snapshots"])
_MAX_WAIT_S = 60.0
_MAX_VERSION = 2**53  # what every JSON reader holds exactly


@router.get(
    "/{cluster}",
    dependencies=[Depends(require_cluster)],
    response_model=SignedSnapshot,
    responses={304: {"description": "nothing newer than `after` within `wait_s` seconds"}},
)
async def get_snapshot(
    runtime: RuntimeOf,
    cluster: str,
    after: Annotated[int, Query(ge=0, le=_MAX_VERSION)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=_MAX_WAIT_S)] = 0,
) -> Response:
    """The newest snapshot, as soon as it is newer than `after`."""
    signed = await service.wait_newer(runtime, cluster, after=after, wait_s=wait_s)
    if signed is None:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED)
    return Response(signed.model_dump_json(), media_type="application/json")
