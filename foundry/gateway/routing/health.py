"""Is a target fit to be asked: a window of outcomes and a circuit breaker over it.

    closed --(error rate or share of slow answers reached)--> open --(its time is up)--> half-open
    half-open --(every trial answered)--> closed      half-open --(a trial failed)--> open, twice as long

Pure: every call is given the time. What it does not know: HTTP, targets, which error counts (`retries.py`).
"""

from __future__ import annotations

from typing import Literal

from foundry.types.routing import Health

State = Literal["closed", "open", "half_open"]

_BUCKETS = 10
_SLOW_SHARE = 0.05
"""The 95th percentile is above a limit exactly when more than this share of the answers is."""
_LONGEST_OPEN = 10.0
"""Times `open_s`: the most that a breaker stays open."""


class Window:
    """Counts of named kinds over the last `span_s` seconds, in ten buckets: constant time and memory.

    kinds: how many counters. Sums are exact to a tenth of the span.
    """

    __slots__ = ("_buckets", "_epoch", "_kinds", "_width_s", "sums")

    def __init__(self, span_s: float, kinds: int) -> None:
        self._width_s = span_s / _BUCKETS
        self._kinds = kinds
        self.sums = [0] * kinds
        """Per kind, over the window, as of the last `at`."""
        self._buckets = [[0] * kinds for _ in range(_BUCKETS)]
        self._epoch = 0

    def at(self, now: float) -> list[int]:
        """Drop what is older than the span; the sums."""
        epoch = int(now / self._width_s)
        if epoch != self._epoch:
            self._advance(epoch)
        return self.sums

    def add(self, now: float, kind: int) -> None:
        """Count one of `kind`."""
        epoch = int(now / self._width_s)
        if epoch != self._epoch:
            self._advance(epoch)
        self._buckets[epoch % _BUCKETS][kind] += 1
        self.sums[kind] += 1

    def clear(self) -> None:
        """Forget everything."""
        for bucket in (self.sums, *self._buckets):
            bucket[:] = [0] * self._kinds

    def _advance(self, epoch: int) -> None:
        stale = min(epoch - self._epoch, _BUCKETS)
        for passed in range(stale):
            bucket = self._buckets[(epoch - passed) % _BUCKETS]
            for kind, count in enumerate(bucket):
                self.sums[kind] -= count
            bucket[:] = [0] * self._kinds
        self._epoch = max(epoch, self._epoch)


_TOTAL, _ERRORS, _TIMED, _SLOW = range(4)


class Breaker:
    """One circuit breaker: over one target, by one route's `Health` (routes with the same one share it)."""

    __slots__ = ("_failed_trials", "_passed", "_trials", "_window", "health", "open_until", "state")

    def __init__(self, health: Health) -> None:
        self.health = health
        self.state: State = "closed"
        self.open_until = 0.0
        """When the next trial may be made, while `state` is open."""
        self._window = Window(health.window_s, 4)
        self._failed_trials = 0
        self._trials = 0  # in flight
        self._passed = 0

    def allows(self, now: float) -> bool:
        """Whether a request may be sent; changes nothing."""
        if self.state == "closed":
            return True
        if self.state == "open":
            return now >= self.open_until
        return self._trials + self._passed < self.health.half_open_requests

    def enter(self, now: float) -> bool:
        """A request is sent. True: it is a trial, and its end must be told with `trial=True`. Call only when `allows`."""
        if self.state == "closed":
            return False
        if self.state == "open" and now >= self.open_until:
            self.half_open()
        self._trials += 1
        return True

    def half_open(self) -> None:
        """Let trials through now (a probe found the target alive)."""
        self.state, self._trials, self._passed = "half_open", 0, 0

    def answered(self, now: float, ttft_ms: float | None, *, trial: bool) -> None:
        """The target began to answer. ttft_ms: time to the first token, None where that means nothing."""
        limit = self.health.max_p95_ttft_ms
        slow = limit is not None and ttft_ms is not None and ttft_ms > limit
        if trial:
            self._trial_ended(now, passed=not slow)
            return
        self._window.add(now, _TOTAL)
        if limit is not None and ttft_ms is not None:
            self._window.add(now, _TIMED)
            if slow:
                self._window.add(now, _SLOW)
                self._judge(now)

    def failed(self, now: float, *, trial: bool) -> None:
        """The target failed before it began to answer."""
        if trial:
            self._trial_ended(now, passed=False)
            return
        self._window.add(now, _TOTAL)
        self._window.add(now, _ERRORS)
        self._judge(now)

    def broke(self, now: float) -> None:
        """The target failed after `answered` was told: that request counts as an error after all."""
        self._window.add(now, _ERRORS)
        self._judge(now)

    def abandoned(self, *, trial: bool) -> None:
        """The request ended without telling anything about the target (the caller left, or was at fault)."""
        if trial and self.state == "half_open" and self._trials:
            self._trials -= 1

    def _trial_ended(self, now: float, *, passed: bool) -> None:
        if self.state != "half_open":
            return  # another trial has decided
        self._trials = max(0, self._trials - 1)
        if not passed:
            self._failed_trials += 1
            self._open(now)
            return
        self._passed += 1
        if self._passed >= self.health.half_open_requests:
            self.state, self._failed_trials = "closed", 0
            self._window.clear()

    def _judge(self, now: float) -> None:
        if self.state != "closed":
            return
        sums, health = self._window.at(now), self.health
        failing = (
            sums[_TOTAL] >= health.min_requests and sums[_ERRORS] >= health.max_error_rate * sums[_TOTAL]
        )
        slow = sums[_TIMED] >= health.min_requests and sums[_SLOW] > _SLOW_SHARE * sums[_TIMED]
        if failing or slow:
            self._open(now)

    def _open(self, now: float) -> None:
        times = min(2.0**self._failed_trials, _LONGEST_OPEN)
        self.state, self.open_until = "open", now + self.health.open_s * times
