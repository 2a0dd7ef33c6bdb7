"""What a target's error answer becomes, and when it may be asked again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from foundry.codecs.base import Told
from foundry.gateway.refusals import refusal_from


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "9" * 5000, "retry-after-ms": "\u00b2"}, 86_400.0),
        ({"retry-after": "\u00b2"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert refusal_from(429, headers, Told("x"), "t").retry_after_s == seconds


def test_retry_after_as_a_date() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    told = refusal_from(503, {"retry-after": at}, Told("x"), "t").retry_after_s
    assert told is not None
    assert 95 < told <= 100


@pytest.mark.parametrize(
    ("status", "ours"), [(401, 502), (429, 429), (500, 502), (503, 503), (422, 422), (529, 502)]
)
def test_the_upstreams_own_status_is_kept_beside_what_the_caller_is_told(status: int, ours: int) -> None:
    error = refusal_from(status, {}, Told("x"), "t")
    assert (error.status, error.upstream_status) == (ours, status)
