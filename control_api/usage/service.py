"""Usage records from the metrics store, over one connection pool that is opened at the first question.

What it does not know: HTTP, ClickHouse's SQL (`foundry/metrics/queries.py`). A store that is down is a 503, never a
reason for the API not to start.
"""

from __future__ import annotations

import asyncio

from pydantic import JsonValue

from control_api.usage.schemas import UsageFilter, record_json
from foundry.metrics.queries import list_usage
from foundry.metrics.store import Store
from foundry.settings import Settings


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

    async def close(self) -> None:
        """Close the connections."""
        if self._store is not None:
            await self._store.close()

    async def _connected(self) -> Store:
        async with self._connecting:
            if self._store is None:
                self._store = await Store.connect(self._settings)
            return self._store
