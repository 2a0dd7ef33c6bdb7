"""An upstream's error answer, turned into ours: what may be passed on to the caller, and with which status.

Our own credential's trouble (401, 403, 404 at the upstream) is never told to the caller as if it were theirs.
What it does not know: I/O, the shapes of error bodies (`codecs/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from foundry.codecs.base import Told
from foundry.errors import UpstreamRefused

CALLERS_FAULT = frozenset({400, 413, 415, 422})
_PASSED_ON = CALLERS_FAULT | {429, 503}
_BAD_GATEWAY = 502


def refusal_from(status: int, headers: Mapping[str, str], told: Told, target_id: str) -> UpstreamRefused:
    """The error to answer with when a target answered `status`."""
    ours = status if status in _PASSED_ON else _BAD_GATEWAY
    message = told.message or f"no reason given (HTTP {status})"
    if ours not in CALLERS_FAULT:
        message = f"{target_id} answered {status}: {message}"
    return UpstreamRefused(
        message,
        status=ours,
        upstream_status=status,
        param=told.param,
        retry_after_s=_retry_after_s(headers),
    )


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """OpenAI's and Azure's milliseconds if told, else the standard header's seconds or date."""
    milliseconds = headers.get("retry-after-ms", "")
    if milliseconds.isdigit():
        return int(milliseconds) / 1000.0
    value = headers.get("retry-after", "")
    if value.isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(until.tzinfo or UTC)).total_seconds()) if until.tzinfo else None
