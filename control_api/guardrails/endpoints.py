"""`/v1/guardrails`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.guardrails import service
from control_api.guardrails.schemas import guardrail_read
from control_api.kit.pagination import Paginated
from control_api.kit.repository import page
from control_api.kit.runtime import Reading, Writing
from foundry.errors import InvalidParameter
from foundry.types.control import GuardrailRead, NounName, Page
from foundry.types.guardrails import GuardrailProfile

router = APIRouter(prefix="/v1/guardrails", tags=["guardrails"])
Reader = Annotated[Subject, Depends(require("guardrails:read"))]
Writer = Annotated[Subject, Depends(require("guardrails:write"))]


@router.get("")
async def list_guardrails(subject: Reader, session: Reading, window: Paginated) -> Page[GuardrailRead]:
    """Guardrail profiles, newest first."""
    rows, next_cursor = await service.list_visible(session, subject, window)
    return page([guardrail_read(row) for row in rows], next_cursor)


@router.get("/{name}")
async def get_guardrail(subject: Reader, session: Reading, name: str) -> GuardrailRead:
    """One of them."""
    return guardrail_read(await service.get(session, subject, name))


@router.put("/{name}")
async def put_guardrail(
    subject: Writer, session: Writing, name: NounName, body: GuardrailProfile
) -> GuardrailRead:
    """Make or replace. Gateways follow within a second. 409 for a name that the configuration file declares."""
    if body.name != name:
        raise InvalidParameter(
            f"the path names '{name}' and the body '{body.name}': make them equal", param="name"
        )
    return guardrail_read(await service.put(session, subject, body))


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_guardrail(subject: Writer, session: Writing, name: str) -> None:
    """Delete."""
    await service.delete(session, subject, name)
