"""The models list for Anthropic's clients: its own pages, cards and errors; and never a route of another project."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import pytest

from tests.foundry.gateway.conftest import Rig

MakeRig = Callable[..., Awaitable[Rig]]
VERSION = {"anthropic-version": "2023-06-01"}


async def test_anthropics_client_lists_every_model_over_pages_and_finds_one(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as plain:
        names = [model["id"] for model in (await plain.get("/v1/models")).json()["data"]]
    async with anthropic.AsyncAnthropic(
        api_key=made.keys["good"], base_url=made.url, max_retries=0
    ) as client:
        found = [model async for model in client.models.list(limit=7)]
        one = await client.models.retrieve("own-ok")
        with pytest.raises(anthropic.NotFoundError) as caught:
            await client.models.retrieve("other-project")
    assert [model.id for model in found] == names
    assert "other-project" not in names
    assert (one.type, one.id, one.display_name) == ("model", "own-ok", "own-ok")
    assert one.created_at.tzinfo is not None
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]  # the SDK says object
    assert {record["protocol"] for record in made.records()} == {"models"}


@pytest.mark.parametrize(
    ("query", "ids", "more"),
    [
        ({"limit": "2"}, ["cached-deterministic", "cached-error-mid"], True),
        ({"limit": "1", "after_id": "vendor-status-500"}, ["vendor-status-503"], False),
        ({"limit": "1", "before_id": "cached-full"}, ["cached-error-mid"], True),
        ({"after_id": "zzz"}, [], False),
    ],
)
async def test_pages(rig: MakeRig, query: dict[str, str], ids: list[str], more: bool) -> None:
    made = await rig()
    async with made.client() as client:
        page: dict[str, Any] = (await client.get("/v1/models", params=query, headers=VERSION)).json()
    assert [model["id"] for model in page["data"]] == ids
    assert (page["has_more"], page["first_id"], page["last_id"]) == (
        more, ids[0] if ids else None, ids[-1] if ids else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "²"}, {"after_id": "a", "before_id": "b"}]
)
async def test_what_is_wrong_is_told_in_anthropics_shape(rig: MakeRig, query: dict[str, str]) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.get("/v1/models", params=query, headers=VERSION)
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
    assert answer.json()["error"]["type"] == "invalid_request_error"
