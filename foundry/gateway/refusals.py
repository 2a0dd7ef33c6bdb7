"""An upstream's error answer, turned into ours: what may be passed on to the caller, and with which status.

Our own credential's trouble (401, 403, 404 at the upstream) is never told to the caller as if it were theirs.
What it does not know: I/O.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from foundry.errors import UpstreamRefused

_CALLERS_FAULT = frozenset({400, 413, 415, 422})
_PASSED_ON = _CALLERS_FAULT | {429, 503}
_BAD_GATEWAY = 502
_WORDS = 500
"""Characters of an unreadable error body that are quoted."""


class _Error(msgspec.Struct):
    message: str = ""
    param: str | None = None


class _Answer(msgspec.Struct):
    error: _Error


_decoder = msgspec.json.Decoder(_Answer)


def refusal_from(status: int, headers: Mapping[str, str], body: bytes, target_id: str) -> UpstreamRefused:
    """The error to answer with when a target answered `status`."""
    try:
        told = _decoder.decode(body).error
    except msgspec.DecodeError:
        told = _Error(message=body[:_WORDS].decode(errors="replace").strip())
    ours = status if status in _PASSED_ON else _BAD_GATEWAY
    message = told.message or f"no reason given (HTTP {status})"
    if ours not in _CALLERS_FAULT:
        message = f"{target_id} answered {status}: {message}"
    return UpstreamRefused(message, status=ours, param=told.param, retry_after_s=_retry_after(headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
