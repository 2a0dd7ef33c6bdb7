"""What an error means for the next try: whether it counts against the target, who may be asked again, and after how long.

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015) and a retry budget (as Finagle's: a
share of the requests, with a floor). Pure. What it does not know: targets, clocks, I/O.
"""

from __future__ import annotations

from random import Random

import msgspec

from foundry.errors import (
    ConfigurationError,
    DeploymentNotReady,
    FoundryError,
    ProtocolNotServed,
    UnsupportedParameter,
    UpstreamError,
    UpstreamRefused,
)
from foundry.gateway.routing.health import Window
from foundry.types.routing import Retries

RATE_LIMITED = 429
_OVERLOADED = 529
"""Anthropic's status for "overloaded"."""
_RETRYABLE = frozenset({408, 500, 502, 503, 504, _OVERLOADED})
_CALLERS_FAULT = frozenset({400, 413, 415, 422})
_BUDGET_SPAN_S = 10.0
_BUDGET_FLOOR = 3
COOL_S = 1.0
"""How long a target rests after a 429 that says no time."""
_LONGEST_EXPONENT = 30


class Verdict(msgspec.Struct, frozen=True):
    """What one failed try, before the first byte, means."""

    unhealthy: bool = False
    """Counts against the target."""
    same: bool = False
    """The same target may be asked again."""
    other: bool = False
    """Another target may be asked."""
    skip: bool = False
    """The target was never asked: the try does not count."""
    cool: bool = False
    """The target asked for a rest: `retry_after_s` of the error, or `COOL_S`."""


_FINAL = Verdict()
_AGAIN = Verdict(unhealthy=True, same=True, other=True)
_ELSEWHERE = Verdict(unhealthy=True, other=True)
_RESTS = Verdict(same=True, other=True, cool=True)
_SKIPPED = Verdict(other=True, skip=True)


def verdict_on(error: FoundryError) -> Verdict:
    """The rules of docs/routing.md, *What is retried*."""
    if isinstance(error, UnsupportedParameter | ProtocolNotServed | DeploymentNotReady | ConfigurationError):
        return _SKIPPED
    if isinstance(error, UpstreamRefused):
        return _on_status(error.upstream_status)
    return _AGAIN if isinstance(error, UpstreamError) else _FINAL


def _on_status(status: int) -> Verdict:
    if status == RATE_LIMITED:
        return _RESTS
    if status in _RETRYABLE:
        return _AGAIN
    return _FINAL if status in _CALLERS_FAULT else _ELSEWHERE


def full_jitter_s(retries: Retries, retry: int, random: Random) -> float:
    """Seconds to wait before retry number `retry` (from 0) of one target."""
    exponent = min(retry, _LONGEST_EXPONENT)
    return random.uniform(0.0, min(retries.max_ms, retries.base_ms * 2.0**exponent)) / 1000.0


_REQUESTS, _RETRIES, _HEDGES = range(3)


class Budget:
    """Bounds the extra load that a route's retries and hedges make, per replica over ten seconds."""

    __slots__ = ("_window",)

    def __init__(self) -> None:
        self._window = Window(_BUDGET_SPAN_S, 3)

    def request(self, now: float) -> None:
        """One request came in."""
        self._window.add(now, _REQUESTS)

    def take_retry(self, now: float, ratio: float) -> bool:
        """Spend one retry, if there is one left."""
        sums = self._window.at(now)
        if sums[_RETRIES] >= max(_BUDGET_FLOOR, ratio * sums[_REQUESTS]):
            return False
        self._window.add(now, _RETRIES)
        return True

    def take_hedge(self, now: float, max_share: float) -> bool:
        """Spend one hedge, if there is one left; always one in ten seconds."""
        sums = self._window.at(now)
        if sums[_HEDGES] >= max(1.0, max_share * sums[_REQUESTS]):
            return False
        self._window.add(now, _HEDGES)
        return True
