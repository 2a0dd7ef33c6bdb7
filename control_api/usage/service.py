"""Usage records from the metrics store, over one connection pool that is opened at the first question.

It also migrates the store's tables. A store that is down is a 503, never a reason for the API not to start.
What it does not know: HTTP, ClickHouse's SQL (`foundry/metrics/queries.py`).
"""

from __future__ import annotations

import asyncio

import structlog
from pydantic import JsonValue

from control_api.usage.schemas import UsageFilter, record_json
from foundry.errors import FoundryError
from foundry.metrics.queries import list_usage
from foundry.metrics.store import Store
from foundry.settings import Settings

log = structlog.get_logger(__name__)
_RETRY_S = (0.5, 15.0)
"""First and longest pause between two attempts to migrate the store."""


class UsageReader:
    """The process's way to the metrics store."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._connecting = asyncio.Lock()

    async def list_records(self, wanted: UsageFilter) -> list[dict[str, JsonValue]]:
        """Records, newest first, of every project: the caller administers the instance. Raises MetricsUnavailable."""
        rows = await list_usage(
            await self._connected(),
            limit=wanted.limit,
            since=wanted.since,
            until=wanted.until,
            route=wanted.route,
            key_id=wanted.key_id,
            request_id=wanted.request_id,
        )
        return [record_json(row) for row in rows]

    async def migrate(self) -> None:
        """Bring the store's tables up to date, however long it takes the store to come up."""
        wait_s = _RETRY_S[0]
        while True:
            try:
                await (await self._connected()).migrate()
            except FoundryError as error:
                log.warning("metrics_migration_waits", reason=error.message, retry_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _RETRY_S[1])
            else:
                return

    async def close(self) -> None:
        """Close the connections."""
        if self._store is not None:
            await self._store.close()

    async def _connected(self) -> Store:
        async with self._connecting:
            if self._store is None:
                self._store = await Store.connect(self._settings)
            return self._store
