"""`/v1/routes`. Route names may contain slashes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.kit.pagination import Paginated
from control_api.kit.repository import page
from control_api.kit.runtime import Reading, Writing
from control_api.routes import service
from control_api.routes.schemas import route_read
from foundry.types.control import Page, RouteName, RouteRead, RouteWrite

router = APIRouter(prefix="/v1/routes", tags=["routes"])
Reader = Annotated[Subject, Depends(require("routes:read"))]
Writer = Annotated[Subject, Depends(require("routes:write"))]


@router.get("")
async def list_routes(subject: Reader, session: Reading, window: Paginated) -> Page[RouteRead]:
    """Routes with their targets, newest first."""
    rows, next_cursor = await service.list_visible(session, subject, window)
    return page([route_read(row) for row in rows], next_cursor)


@router.get("/{name:path}")
async def get_route(subject: Reader, session: Reading, name: str) -> RouteRead:
    """One route."""
    return route_read(await service.get(session, subject, name))


@router.put("/{name:path}")
async def put_route(subject: Writer, session: Writing, name: RouteName, body: RouteWrite) -> RouteRead:
    """Make or replace a route. Gateways follow within a second. 409 for a name that the configuration file declares."""
    return route_read(await service.put(session, subject, name, body), body.targets)


@router.delete("/{name:path}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_route(subject: Writer, session: Writing, name: str) -> None:
    """Delete a route."""
    await service.delete(session, subject, name)
