"""A key's life: made, shown once, used, revoked for good."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from foundry.gateway.keys import hash_key
from foundry.settings import Settings
from tests.control_api.conftest import Api, running

pytestmark = pytest.mark.postgres


async def test_a_key_is_shown_once_and_stored_as_a_keyed_hash(api: Api, fresh_database: str) -> None:
    made = await api.client.post("/v1/keys", json={"name": "alice", "allowed_routes": ["a/b", "c"]})
    assert made.status_code == 201
    key = made.json()["key"]
    assert made.json()["scopes"] == ["inference"]
    assert made.json()["allowed_routes"] == ["a/b", "c"]
    listed = await api.client.get("/v1/keys")
    assert key not in listed.text
    assert listed.json()["items"][0]["prefix"] == key[:10]
    async with await psycopg.AsyncConnection.connect(fresh_database) as database:
        rows = await (await database.execute("SELECT keys::text, key_hash FROM keys")).fetchall()
    assert not any(key in row[0] for row in rows)
    assert hash_key(api.runtime.pepper, key) in {row[1] for row in rows}


async def test_a_revoked_key_stops_and_cannot_come_back(api: Api, settings: Settings) -> None:
    key_id, key = await api.key("admin")
    headers = {"Authorization": f"Bearer {key}"}
    assert (await api.client.get("/v1/keys", headers=headers)).status_code == 200
    assert (await api.client.delete(f"/v1/keys/{key_id}")).status_code == 204
    assert (await api.client.delete(f"/v1/keys/{key_id}")).status_code == 204  # again is harmless
    refused = await api.client.get("/v1/keys", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_api_key")
    assert "revoked" in refused.json()["detail"]
    (settings.home / "secrets" / "admin.key").write_text(
        key, encoding="utf-8"
    )  # a restart with it changes nothing
    async with running(settings) as again:
        assert (await again.client.get("/v1/keys")).status_code == 401


async def test_an_expired_key_is_refused(api: Api, fresh_database: str) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await api.client.post("/v1/keys", json={"name": "short", "scopes": ["admin"], "expires_at": soon})
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    assert (await api.client.get("/v1/keys", headers=headers)).status_code == 200
    async with await psycopg.AsyncConnection.connect(fresh_database) as database:
        await database.execute("UPDATE keys SET expires_at = now() WHERE name = 'short'")
    refused = await api.client.get("/v1/keys", headers=headers)
    assert refused.status_code == 401
    assert "expired" in refused.json()["detail"]


async def test_the_last_admin_key_stays_even_when_two_are_revoked_at_once(api: Api) -> None:
    first = (await api.client.get("/v1/keys")).json()["items"][0]["id"]
    last = await api.client.delete(f"/v1/keys/{first}")
    assert (last.status_code, last.json()["code"]) == (409, "conflict")
    second, _key = await api.key("admin")
    answers = await asyncio.gather(*(api.client.delete(f"/v1/keys/{key_id}") for key_id in (first, second)))
    # the loser sees that it is the last one, or that its own key was just revoked
    assert sorted(answer.status_code for answer in answers)[0] == 204
    assert sorted(answer.status_code for answer in answers)[1] in {401, 409}


async def test_pages_cover_every_key_once(api: Api) -> None:
    for _ in range(5):
        await api.key("inference")
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        answer = (await api.client.get("/v1/keys", params=query)).json()
        seen += [item["id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 6
    assert seen == sorted(seen, reverse=True)


async def test_bootstrap_changes_nothing_the_second_time(settings: Settings) -> None:
    async with running(settings) as first:
        before = (await first.client.get("/v1/keys")).json()
        organizations = (await first.client.get("/v1/organizations")).json()
        projects = (await first.client.get("/v1/projects")).json()
    assert [item["name"] for item in organizations["items"]] == ["default"]
    assert projects["items"][0]["organization_id"] == organizations["items"][0]["id"]
    async with running(settings) as second:
        assert (await second.client.get("/v1/keys")).json() == before
        assert (await second.client.get("/v1/projects")).json() == projects
