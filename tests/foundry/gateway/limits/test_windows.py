"""Calendar windows, in zones whose days are not all alike."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry.gateway.limits.windows import FOREVER, window_at
from foundry.types.limits import Window

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Havana",
    "Africa/Cairo",
)
CALENDAR: tuple[Window, ...] = ("second", "minute", "hour", "day", "week", "month")


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("window", "zone", "now", "start", "end"),
    [
        ("second", "UTC", "2026-03-04T12:00:00.7+00:00", "2026-03-04T12:00:00+00:00", "2026-03-04T12:00:01+00:00"),
        ("minute", "UTC", "2026-03-04T12:00:59+00:00", "2026-03-04T12:00:00+00:00", "2026-03-04T12:01:00+00:00"),
        ("hour", "Asia/Kolkata", "2026-03-04T12:10:00+05:30", "2026-03-04T12:00:00+05:30", "2026-03-04T13:00:00+05:30"),
        ("day", "Europe/Berlin", "2026-03-29T12:00:00+02:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("day", "Europe/Berlin", "2026-10-25T12:00:00+01:00", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
        ("day", "America/Havana", "2026-11-01T12:00:00-05:00", "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"),
        ("day", "Africa/Cairo", "2026-04-24T12:00:00+03:00", "2026-04-24T00:00:00+02:00", "2026-04-25T00:00:00+03:00"),
        ("week", "UTC", "2026-03-04T12:00:00+00:00", "2026-03-02T00:00:00+00:00", "2026-03-09T00:00:00+00:00"),
        ("month", "America/New_York", "2026-12-31T23:00:00-05:00", "2026-12-01T00:00:00-05:00", "2027-01-01T00:00:00-05:00"),
    ],
)  # fmt: skip
def test_known_windows(window: Window, zone: str, now: str, start: str, end: str) -> None:
    assert window_at(window, ZoneInfo(zone), _at(now)) == (_at(start), _at(end))


@given(st.sampled_from(CALENDAR), st.sampled_from(ZONES), st.floats(1.7e9, 1.9e9))
def test_a_window_holds_its_instant_and_the_next_begins_where_it_ends(
    window: Window, zone: str, now: float
) -> None:
    start, end = window_at(window, ZoneInfo(zone), now)
    assert start <= now < end
    again = window_at(window, ZoneInfo(zone), (start + end) / 2)
    following, _ = window_at(window, ZoneInfo(zone), end)
    if not (window == "hour" and zone == "Australia/Lord_Howe"):  # its clocks change by half an hour
        assert again == (start, end)
        assert following == end


def test_what_never_ends() -> None:
    now = datetime.now(UTC).timestamp()
    assert window_at("total", ZoneInfo("UTC"), now) == window_at(None, ZoneInfo("UTC"), now) == (0, FOREVER)
