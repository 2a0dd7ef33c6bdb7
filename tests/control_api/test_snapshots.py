"""Snapshots: signed, strictly newer, published only for a change, and on the wire within milliseconds of it."""

from __future__ import annotations

import asyncio

import pytest

from foundry.gateway.keys import hash_key
from foundry.gateway.signing import public_key_from_pem, verify
from foundry.settings import Settings
from foundry.types.snapshot import EngineTarget, ProviderTarget, SignedSnapshot, Snapshot
from tests.control_api.conftest import DEPLOYMENT, ENGINE_ROUTE, Api, running

pytestmark = pytest.mark.postgres


async def poll(api: Api, after: int, wait_s: float = 5) -> Snapshot | None:
    response = await api.client.get(
        f"/v1/snapshots/local?after={after}&wait_s={wait_s}", headers=api.gateway_headers()
    )
    if response.status_code == 304:
        return None
    assert response.status_code == 200, response.text
    signed = SignedSnapshot.model_validate_json(response.content)
    return verify(signed, public_key_from_pem(api.runtime.settings.secret("snapshot_public.pem")))


async def settled(api: Api) -> Snapshot:
    """The snapshot once nothing newer comes."""
    newest = await poll(api, 0)
    while newest is not None and (newer := await poll(api, newest.version, 0.3)) is not None:
        newest = newer
    assert newest is not None
    return newest


async def test_it_holds_what_a_gateway_needs_and_no_secret(api: Api) -> None:
    key_id, key = await api.key("inference")
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    await api.client.put("/v1/routes/smol", json=ENGINE_ROUTE)
    snapshot = await settled(api)
    entry = next(entry for entry in snapshot.keys if entry.key_id == key_id)
    assert entry.key_hash == hash_key(api.runtime.pepper, key)
    (route,) = snapshot.routes
    (target,) = route.targets
    assert isinstance(target, EngineTarget)
    assert (target.base_url, target.phase) == ("http://127.0.0.1:8000/engines/smollm2", "queued")
    assert key not in snapshot.model_dump_json()


async def test_vendor_targets_get_their_price_from_the_book_unless_the_route_names_one(api: Api) -> None:
    own = {"price_id": "deal@1", "input_per_mtok_usd": "0.01", "source": "operator"}
    await api.client.put(
        "/v1/routes/mini",
        json={
            "targets": [
                {"kind": "provider", "provider": "openai", "model": "gpt-4o-mini"},
                {"kind": "provider", "provider": "anthropic", "model": "claude-haiku-4-5", "price": own},
                {"kind": "provider", "provider": "openai", "model": "nobody-knows"},
            ]
        },
    )
    (route,) = (await settled(api)).routes
    prices = [target.price for target in route.targets if isinstance(target, ProviderTarget)]
    assert [price and price.price_id for price in prices] == ["openai/gpt-4o-mini@2025-07-04", "deal@1", None]


async def test_versions_grow_by_one_per_change_and_not_otherwise(api: Api) -> None:
    before = await settled(api)
    key_id, _key = await api.key("inference")
    one = await poll(api, before.version)
    assert one is not None
    assert one.version == before.version + 1
    api.runtime.changes.fire_all()  # a signal without a change publishes nothing
    assert await poll(api, one.version, 0.3) is None
    await api.client.delete(f"/v1/keys/{key_id}")
    two = await poll(api, one.version)
    assert two is not None
    assert two.version == one.version + 1
    assert key_id not in {entry.key_id for entry in two.keys}


async def test_a_long_poll_is_woken_by_a_change(api: Api) -> None:
    version = (await settled(api)).version
    for _ in range(3):
        waiting = asyncio.create_task(poll(api, version, 60))
        await asyncio.sleep(0)  # no synchronisation: it lets the poll begin; the change wakes it either way
        await api.key("inference")
        woken = await asyncio.wait_for(waiting, 30)
        assert woken is not None
        version = woken.version


async def test_a_change_made_at_one_process_wakes_a_poll_at_another(api: Api, settings: Settings) -> None:
    async with running(settings) as other:
        version = max((await settled(api)).version, (await settled(other)).version)
        waiting = asyncio.create_task(poll(other, version, 60))
        await asyncio.gather(*(api.key("inference") for _ in range(20)))
        assert await asyncio.wait_for(waiting, 30) is not None
        # Both processes published at every signal: the versions are still one row, strictly growing, and complete.
        final = await settled(api)
        assert final == await settled(other)
        assert len(final.keys) == 21
        assert version < final.version <= version + 20


async def test_a_gateway_that_is_ahead_gets_a_version_above_its_own(api: Api) -> None:
    healed = await poll(api, 41)  # the database was restored from an older copy
    assert healed is not None
    assert healed.version == 42
    assert await poll(api, 42, 0) is None


async def test_nothing_newer_is_304_after_the_wait_and_at_once_when_stopping(api: Api) -> None:
    version = (await settled(api)).version
    assert await poll(api, version, 0.4) is None
    waiting = asyncio.create_task(poll(api, version, 60))
    await asyncio.sleep(0.05)  # a played delay: the poll is usually waiting by then
    api.runtime.stopping.set()
    api.runtime.changes.fire_all()
    assert await asyncio.wait_for(waiting, 30) is None


async def test_an_unknown_cluster_is_404_and_a_wild_version_400(api: Api) -> None:
    unknown = await api.client.get("/v1/snapshots/mars", headers=api.gateway_headers())
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    wild = await api.client.get("/v1/snapshots/local?after=-1", headers=api.gateway_headers())
    assert (wild.status_code, wild.json()["code"]) == (400, "invalid_parameter")
