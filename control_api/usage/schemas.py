"""What usage can be filtered by, and records as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pydantic import JsonValue


@dataclass(frozen=True)
class UsageFilter:
    """Which usage records: at most `limit`, received in [since, until)."""

    limit: int
    since: datetime | None = None
    until: datetime | None = None
    route: str | None = None
    key_id: str | None = None
    request_id: str | None = None


def record_json(record: Mapping[str, object]) -> dict[str, JsonValue]:
    """A record as JSON: money as a decimal string, times in ISO 8601."""
    return {name: _json(value) for name, value in record.items()}


def _json(value: object) -> JsonValue:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
