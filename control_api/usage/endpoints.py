"""`/v1/usage`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, JsonValue

from control_api.auth.dependencies import require
from control_api.auth.subject import Subject
from control_api.kit.repository import page
from control_api.usage.schemas import UsageFilter
from control_api.usage.service import UsageReader
from foundry.types.control import Page

router = APIRouter(prefix="/v1/usage", tags=["usage"])
Reader = Annotated[Subject, Depends(require("usage:read"))]


def _usage_reader(request: Request) -> UsageReader:
    reader: UsageReader = request.app.state.usage
    return reader


@router.get("")
async def list_usage(
    _subject: Reader,
    usage: Annotated[UsageReader, Depends(_usage_reader)],
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    route: Annotated[str | None, Query(max_length=200)] = None,
    key_id: Annotated[str | None, Query(max_length=64)] = None,
    request_id: Annotated[str | None, Query(max_length=128)] = None,
) -> Page[dict[str, JsonValue]]:
    """Usage records, newest first; page on with `until`."""
    wanted = UsageFilter(
        limit=limit, since=since, until=until, route=route, key_id=key_id, request_id=request_id
    )
    return page(await usage.list_records(wanted), None)
