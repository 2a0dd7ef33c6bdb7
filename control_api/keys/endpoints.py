"""`/v1/keys`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.keys import service
from control_api.keys.schemas import key_created, key_read
from control_api.kit.pagination import Paginated
from control_api.kit.repository import page
from control_api.kit.runtime import Reading, RuntimeOf, Writing
from foundry.types.control import KeyCreate, KeyCreated, KeyRead, Page

router = APIRouter(prefix="/v1/keys", tags=["keys"])
Reader = Annotated[Subject, Depends(require("keys:read"))]
Writer = Annotated[Subject, Depends(require("keys:write"))]


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_key(subject: Writer, session: Writing, runtime: RuntimeOf, body: KeyCreate) -> KeyCreated:
    """Make a key. The answer is the only place that ever shows it."""
    row, secret = await service.create(session, subject, runtime.pepper, body)
    return key_created(row, secret)


@router.get("")
async def list_keys(subject: Reader, session: Reading, window: Paginated) -> Page[KeyRead]:
    """Keys without their secrets, newest first."""
    rows, next_cursor = await service.list_visible(session, subject, window)
    return page([key_read(row) for row in rows], next_cursor)


@router.delete("/{key_id}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_key(subject: Writer, session: Writing, key_id: str) -> None:
    """Revoke a key for good."""
    await service.revoke(session, subject, key_id)
