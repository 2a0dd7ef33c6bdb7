"""Questions about usage: records, newest first, and totals. Every value is bound, never formatted into SQL.

What it does not know: who may see which project (the caller passes `project_id`), how answers are rendered.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from foundry.errors import InvalidParameter
from foundry.metrics.store import Row, Store
from foundry.types.usage import UsageRecord

MAX_LIMIT = 10_000
TIME_LIMIT_S = 20

_COLUMNS = ", ".join(field.name for field in msgspec.structs.fields(UsageRecord))
_SETTINGS = {
    "max_execution_time": TIME_LIMIT_S,
    # A record's month never changes, so rows of different partitions are never one record.
    "do_not_merge_across_partitions_select_final": 1,
}


async def list_usage(
    store: Store,
    *,
    limit: int,
    since: datetime | None = None,
    until: datetime | None = None,
    route: str | None = None,
    key_id: str | None = None,
    request_id: str | None = None,
    project_id: str | None = None,
) -> list[Row]:
    """Usage records as dicts named as UsageRecord's fields, newest first, each id once.

    limit: 1 to 10,000. since: inclusive, until: exclusive, both with a time zone. `cost_usd` is a Decimal or None,
    `received_at` an aware UTC datetime. Raises InvalidParameter, MetricsUnavailable (also after 20 s), MetricsRefused.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidParameter(f"limit is {limit}: give 1 to {MAX_LIMIT}", param="limit")
    equal = {"route": route, "key_id": key_id, "request_id": request_id, "project_id": project_id}
    where, parameters = _where(since, until, equal)
    sql = (
        f"SELECT {_COLUMNS} FROM usage FINAL{where} ORDER BY received_at DESC, id DESC LIMIT {{limit:UInt32}}"  # noqa: S608  (constants only)
    )
    return await store.query(sql, {**parameters, "limit": limit}, settings=_SETTINGS)


async def usage_totals(
    store: Store,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    route: str | None = None,
    key_id: str | None = None,
    project_id: str | None = None,
) -> Row:
    """Sums over the records that match, each id once.

    Keys: requests, input_tokens (cached included), cached_input_tokens, output_tokens (reasoning included),
    reasoning_tokens, cost_usd (Decimal; of priced requests only), unpriced_requests (used tokens, no price known).
    """
    where, parameters = _where(since, until, {"route": route, "key_id": key_id, "project_id": project_id})
    sql = (
        "SELECT count() AS requests, sum(input_tokens) AS input_tokens, sum(cached_input_tokens) AS cached_input_tokens,"  # noqa: S608  (constants only)
        " sum(output_tokens) AS output_tokens, sum(reasoning_tokens) AS reasoning_tokens, sum(cost_usd) AS cost_usd,"
        f" countIf(price_status = 'unknown') AS unpriced_requests FROM usage FINAL{where}"
    )
    row = (await store.query(sql, parameters, settings=_SETTINGS))[0]
    return {**row, "cost_usd": row["cost_usd"] if row["cost_usd"] is not None else Decimal(0)}


def _where(
    since: datetime | None, until: datetime | None, equal: dict[str, str | None]
) -> tuple[str, dict[str, object]]:
    conditions: list[str] = []
    parameters: dict[str, object] = {}
    for name, operator, moment in (("since", ">=", since), ("until", "<", until)):
        if moment is not None:
            conditions.append(f"received_at {operator} {{{name}:DateTime64(6, 'UTC')}}")
            parameters[name] = _utc_text(moment, name)
    for name, value in equal.items():
        if value is not None:
            conditions.append(f"{name} = {{{name}:String}}")
            parameters[name] = value
    return (" WHERE " + " AND ".join(conditions) if conditions else ""), parameters


def _utc_text(moment: datetime, name: str) -> str:
    if moment.tzinfo is None:
        raise InvalidParameter(
            f"{name} is {moment.isoformat()}, without a time zone: add one, e.g. Z", param=name
        )
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
