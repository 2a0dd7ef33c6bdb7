"""`/v1/limits`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.kit.pagination import Paginated
from control_api.kit.repository import page
from control_api.kit.runtime import Reading, Writing
from control_api.limits import service
from control_api.limits.schemas import limit_read
from foundry.errors import InvalidParameter
from foundry.types.control import LimitRead, NounName, Page
from foundry.types.limits import LimitEntry

router = APIRouter(prefix="/v1/limits", tags=["limits"])
Reader = Annotated[Subject, Depends(require("limits:read"))]
Writer = Annotated[Subject, Depends(require("limits:write"))]


@router.get("")
async def list_limits(subject: Reader, session: Reading, window: Paginated) -> Page[LimitRead]:
    """Limits and budgets, newest first."""
    rows, next_cursor = await service.list_visible(session, subject, window)
    return page([limit_read(row) for row in rows], next_cursor)


@router.get("/{name}")
async def get_limit(subject: Reader, session: Reading, name: str) -> LimitRead:
    """One of them."""
    return limit_read(await service.get(session, subject, name))


@router.put("/{name}")
async def put_limit(subject: Writer, session: Writing, name: NounName, body: LimitEntry) -> LimitRead:
    """Make or replace. Gateways follow within a second. 409 for a name that the configuration file declares."""
    if body.name != name:
        raise InvalidParameter(
            f"the path names '{name}' and the body '{body.name}': make them equal", param="name"
        )
    return limit_read(await service.put(session, subject, body))


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_limit(subject: Writer, session: Writing, name: str) -> None:
    """Delete."""
    await service.delete(session, subject, name)
