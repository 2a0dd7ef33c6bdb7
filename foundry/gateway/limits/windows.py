"""Calendar windows: when the second, minute, ..., month that holds an instant begins and ends in a time zone.

Days, weeks (Monday) and months begin at local midnight, so a day with a change of clocks has 23 or 25 hours; a midnight
that does not exist is the change itself, one that happens twice is its first. What it does not know: limits.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from foundry.types.limits import Window

FOREVER = 10.0**13
"""End of what never ends, seconds since 1970 (JSON has no infinity)."""
_SECONDS: dict[Window, int] = {"second": 1, "minute": 60, "hour": 3600}


def window_at(window: Window | None, zone: ZoneInfo, now: float) -> tuple[int, float]:
    """Start and end (exclusive), seconds since 1970, of the window that holds `now`; None and `total`: (0, FOREVER)."""
    if window is None or window == "total":
        return 0, FOREVER
    seconds = _SECONDS.get(window)
    if seconds is not None:
        return _aligned(seconds, zone, now)
    local = datetime.fromtimestamp(now, zone)
    day = datetime(local.year, local.month, local.day, tzinfo=zone)
    if window == "day":
        return _between(day, day + timedelta(days=1))
    if window == "week":
        monday = day - timedelta(days=day.weekday())
        return _between(monday, monday + timedelta(days=7))
    first = day.replace(day=1)
    return _between(first, (first + timedelta(days=32)).replace(day=1))


def _aligned(seconds: int, zone: ZoneInfo, now: float) -> tuple[int, float]:
    """Up to an hour: aligned to the local clock, whose offset may be half an hour."""
    offset = int(_offset_s(zone, now)) if seconds == _SECONDS["hour"] else 0
    start = (int(now) + offset) // seconds * seconds - offset
    return start, float(start + seconds)


def _offset_s(zone: ZoneInfo, now: float) -> float:
    offset = datetime.fromtimestamp(now, UTC).astimezone(zone).utcoffset()
    return offset.total_seconds() if offset else 0.0


def _between(start: datetime, end: datetime) -> tuple[int, float]:
    """Local midnights to seconds; arithmetic on aware datetimes of one zone is wall-clock arithmetic, as wanted here."""
    return int(start.timestamp()), end.timestamp()
