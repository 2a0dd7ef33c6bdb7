"""`/v1/blocks`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.blocks import service
from control_api.blocks.schemas import block_read
from control_api.kit.pagination import Paginated
from control_api.kit.repository import page
from control_api.kit.runtime import Reading, RuntimeOf, Writing
from foundry.errors import InvalidParameter
from foundry.types.control import BlockRead, NounName, Page
from foundry.types.guardrails import BlockRule

router = APIRouter(prefix="/v1/blocks", tags=["blocks"])
Reader = Annotated[Subject, Depends(require("blocks:read"))]
Writer = Annotated[Subject, Depends(require("blocks:write"))]


@router.get("")
async def list_blocks(subject: Reader, session: Reading, window: Paginated) -> Page[BlockRead]:
    """Blocking rules, newest first."""
    rows, next_cursor = await service.list_visible(session, subject, window)
    return page([block_read(row) for row in rows], next_cursor)


@router.get("/{name}")
async def get_block(subject: Reader, session: Reading, name: str) -> BlockRead:
    """One of them."""
    return block_read(await service.get(session, subject, name))


@router.put("/{name}")
async def put_block(
    subject: Writer, session: Writing, runtime: RuntimeOf, name: NounName, body: BlockRule
) -> BlockRead:
    """Make or replace; 400 for a rule that could never match. Gateways follow within a second. 409 for a name that the configuration file declares."""
    if body.name != name:
        raise InvalidParameter(
            f"the path names '{name}' and the body '{body.name}': make them equal", param="name"
        )
    has_countries = runtime.settings.gateway.country_database is not None
    return block_read(await service.put(session, subject, body, has_countries=has_countries))


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_block(subject: Writer, session: Writing, name: str) -> None:
    """Delete."""
    await service.delete(session, subject, name)
