"""Migrations and queries against a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from foundry.errors import ConfigurationError, InvalidParameter
from foundry.metrics import store as store_module
from foundry.metrics.queries import list_usage, usage_totals
from foundry.metrics.store import Migration, Store
from foundry.types.usage import UsageRecord
from tests.foundry.metrics.conftest import StoreProcess

Record = Callable[..., UsageRecord]


async def insert(store: Store, *records: UsageRecord) -> None:
    await store.insert_json("usage", b"\n".join(msgspec.json.encode(one) for one in records))


async def test_the_table_has_exactly_the_records_columns(store: Store) -> None:
    rows = await store.query(
        "SELECT name FROM system.columns WHERE database = 'foundry' AND table = 'usage' ORDER BY position", {}
    )
    assert [row["name"] for row in rows] == [field.name for field in msgspec.structs.fields(UsageRecord)]


async def test_migrate_twice_and_twice_at_once(store_process: StoreProcess) -> None:
    settings = store_process.settings
    fresh = settings.model_copy(update={"metrics": settings.metrics.model_copy(update={"database": "fresh"})})
    stores = [await Store.connect(fresh), await Store.connect(fresh)]
    applied = await asyncio.gather(*(one.migrate() for one in stores))
    assert "0001_usage.sql" in {name for names in applied for name in names}
    assert await stores[0].migrate() == []
    assert await list_usage(stores[0], limit=1) == []
    await stores[0].execute("DROP DATABASE fresh")
    for one in stores:
        await one.close()


async def test_an_edited_migration_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "migrations", lambda: [Migration(1, "0001_usage.sql", "SELECT 1;")])
    with pytest.raises(ConfigurationError, match="0001_usage"):
        await store.migrate()


async def test_check(store: Store) -> None:
    await store.check()


async def test_filters_bind_their_values(store: Store, record: Record) -> None:
    evil = "x' OR 1=1 --\\"
    await insert(
        store, record(1), record(2, route=evil), record(3, key_id="key-2"), record(4, project_id="project-2")
    )
    await insert(store, record(1))  # twice

    async def found(**filters: object) -> list[str]:
        return [str(row["id"])[-1] for row in await list_usage(store, limit=10, **filters)]  # pyright: ignore[reportArgumentType]  (keyword names are the parametrisation)

    assert await found() == ["4", "3", "2", "1"]
    assert await found(route=evil) == ["2"]
    assert await found(key_id="key-2") == ["3"]
    assert await found(request_id=record(4).request_id) == ["4"]
    assert await found(project_id="project-2") == ["4"]
    assert await found(project_id="project-2", key_id="key-2") == []
    assert await found(since=record(2).received_at, until=record(4).received_at) == ["3", "2"]
    elsewhere = record(3).received_at.astimezone(tz=None)
    assert await found(since=elsewhere + timedelta(microseconds=1)) == ["4"]
    assert len(await list_usage(store, limit=2)) == 2


@pytest.mark.parametrize("limit", [0, -1, 10_001])
async def test_limits_are_refused(store: Store, limit: int) -> None:
    with pytest.raises(InvalidParameter, match=str(limit)):
        await list_usage(store, limit=limit)


async def test_a_time_without_zone_is_refused(store: Store) -> None:
    with pytest.raises(InvalidParameter, match="time zone"):
        await list_usage(store, limit=1, since=datetime(2026, 1, 1))  # noqa: DTZ001  (the bad input)


async def test_totals(store: Store, record: Record) -> None:
    tiny = Decimal("0.000000000000000001")
    await insert(
        store,
        record(1, cost_usd=tiny),
        record(2, cost_usd=Decimal("9999999999.999999999999999999")),
        record(3, cost_usd=None, price_status="unknown"),
        record(4, route="other"),
    )
    assert await usage_totals(store, route="smollm2") == {
        "requests": 3,
        "input_tokens": 93,
        "cached_input_tokens": 21,
        "output_tokens": 36,
        "reasoning_tokens": 9,
        "cost_usd": Decimal(10_000_000_000),
        "unpriced_requests": 1,
    }
    nothing = await usage_totals(store, since=datetime(2030, 1, 1, tzinfo=UTC))
    assert (nothing["requests"], nothing["cost_usd"]) == (0, Decimal(0))


async def test_what_a_record_leaves_out_is_the_columns_default(store: Store) -> None:
    bare = UsageRecord(
        id="rec-bare", received_at=datetime(2026, 11, 21, tzinfo=UTC), request_id="req-bare", cluster="c", gateway="g",
        outcome="rejected", status=401, e2e_ms=1.0,
    )  # fmt: skip
    await insert(store, bare)
    assert (await list_usage(store, limit=1))[0] == msgspec.structs.asdict(bare)
