"""`/v1/deployments`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.deployments import service
from control_api.deployments.schemas import deployment_read
from control_api.kit.pagination import Paginated
from control_api.kit.repository import page
from control_api.kit.runtime import Reading, Writing
from foundry.errors import InvalidParameter
from foundry.types.control import DeploymentRead, Page
from foundry.types.deployment import DeploymentName, DeploymentSpec

router = APIRouter(prefix="/v1/deployments", tags=["deployments"])
Reader = Annotated[Subject, Depends(require("deployments:read"))]
Writer = Annotated[Subject, Depends(require("deployments:write"))]


@router.get("")
async def list_deployments(subject: Reader, session: Reading, window: Paginated) -> Page[DeploymentRead]:
    """Deployments with their status, newest first."""
    rows, next_cursor = await service.list_visible(session, subject, window)
    return page([deployment_read(row) for row in rows], next_cursor)


@router.get("/{name}")
async def get_deployment(subject: Reader, session: Reading, name: str) -> DeploymentRead:
    """One deployment with its status."""
    return deployment_read(await service.get(session, subject, name))


@router.put("/{name}")
async def put_deployment(
    subject: Writer, session: Writing, name: DeploymentName, body: DeploymentSpec
) -> DeploymentRead:
    """Make or change a deployment. Its status follows as the cluster moves; poll `GET`."""
    if body.name != name:
        raise InvalidParameter(
            f"the path names '{name}' and the body '{body.name}': make them equal", param="name"
        )
    return deployment_read(await service.put(session, subject, body))


@router.delete("/{name}", status_code=status.HTTP_202_ACCEPTED)
async def delete_deployment(subject: Writer, session: Writing, name: str) -> DeploymentRead:
    """Delete a deployment; it is listed as `deleting` until the cluster has let go of it."""
    return deployment_read(await service.delete(session, subject, name))
