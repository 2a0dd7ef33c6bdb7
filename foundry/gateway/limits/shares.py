"""All slices of one replica, and its talk with the ledger: report and refill, be called, look after what lies idle.

One report is under way at a time, so that a lease is only ever raised by the answer to the latest statement. What it does not know:
requests, how the ledger is reached.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable

import structlog

from foundry.errors import LimitsUnavailable
from foundry.gateway.limits.rules import CONCURRENCY, Rule, SliceKey
from foundry.gateway.limits.slices import Slice
from foundry.gateway.limits.wire import CounterId, LedgerClient, Reply, Report

log = structlog.get_logger()

_BEAT_S = 0.25
"""The slices are looked after so often."""
_REPORT_S = 1.0
"""What was spent is told so often, and that the replica lives."""
_IDLE_S = 10.0
"""A slice that nobody used for so long gives back what it holds."""
_REPEAT_S = 0.5
"""Needs that are not decided are stated again."""
_SYNC_S = 2.0
_WATCH_S = 15.0
_BACKOFF_S = (0.1, 1.0)
_FENCE_S = 8.0
"""Without word from the ledger for so long, concurrency is no longer handed out: the ledger gives it away after 10 s."""
_PREFETCH_S = 2.0
"""The next window's slice is fetched this long before it begins, or in the second half of a shorter window."""
_LATE_S = 60.0
"""What settles later than this after its window is no longer told: nobody is measured by it."""


class Shares:
    """See the module. wall: seconds since 1970. monotonic: steady seconds."""

    def __init__(
        self, ledger: LedgerClient, replica: str, *, wall: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._ledger, self._replica = ledger, replica
        self._wall, self._monotonic = wall, monotonic
        self.current: dict[SliceKey, Slice] = {}
        """Of the window that was last used."""
        self.version = 0
        """Snapshot that the caps come from."""
        self._next: dict[SliceKey, Slice] = {}
        self._counters: dict[CounterId, Slice] = {}
        self._rules: dict[SliceKey, Rule] = {}
        self._dirty: list[Slice] = []
        self._rings = asyncio.Event()
        self._epoch, self._seq, self._failures = "", 0, 0
        self._heard_at = self._told_at = self._idled_at = monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False

    @property
    def cut_off_s(self) -> float:
        """Seconds since the ledger last answered; 0 while it does."""
        return self._monotonic() - self._heard_at if self._failures else 0.0

    def open(self, rule: Rule, key: SliceKey, now: float) -> Slice:
        """The slice of the rule's present window, with the rule's cap."""
        if not self._started:
            self.start()
        self._rules[key] = rule
        part = self.current.get(key)
        if part is None or now >= part.end:
            start, end = rule.at(now)
            self._next.pop(key, None)
            part = self.current[key] = self._slice(CounterId(key[0], key[1], start), rule, end)
        if part.cap != rule.cap:
            part.cap = rule.cap
            part.frozen = True  # until the ledger knows
            self.tell(part)
        return part

    def tell(self, part: Slice) -> None:
        """State this slice with the next report."""
        if not part.dirty:
            part.dirty = True
            self._dirty.append(part)
            self._rings.set()

    def start(self) -> None:
        """Begin to talk, in the running loop; the first slice does it otherwise."""
        if self._started:
            return
        self._started = True
        self._heard_at = self._monotonic()
        self._tasks = [
            asyncio.create_task(self._talk(), name="limits-talk"),
            asyncio.create_task(self._listen(), name="limits-listen"),
        ]
        for task in self._tasks:
            task.add_done_callback(_log_death)

    async def stop(self) -> None:
        """Give everything back, if the ledger answers within a moment."""
        await self.kill()
        if not self._counters:
            return
        for part in self._counters.values():
            part.returning = True
        try:
            async with asyncio.timeout(_SYNC_S):
                await self._ledger.sync(self._report(self._counters.values(), leaving=True))
        except (LimitsUnavailable, TimeoutError) as error:
            log.warning("limits_not_given_back", reason=str(error) or "no answer in time")

    async def kill(self) -> None:
        """Stop talking without a word, as a crash would."""
        self._started = True  # and over: not to be begun again
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _slice(self, counter: CounterId, rule: Rule, end: float) -> Slice:
        part = self._counters.get(counter)
        if part is None:
            part = Slice(counter, cap=rule.cap, end=end, gauge=rule.meter == CONCURRENCY, life=time.time_ns())
            self._counters[counter] = part
        return part

    async def _talk(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_BEAT_S):
                    await self._rings.wait()
            except TimeoutError:
                pass
            self._rings.clear()
            self._look_after()
            if not self._dirty and self._monotonic() - self._told_at < _REPORT_S:
                continue
            parts, self._dirty = self._dirty, []
            report = self._report(parts)
            try:
                async with asyncio.timeout(_SYNC_S):
                    reply = await self._ledger.sync(report)
            except (LimitsUnavailable, TimeoutError) as error:
                await self._missed(parts, error)
            else:
                self._hear(reply)

    async def _listen(self) -> None:
        epoch, seen = "", 0
        while True:
            try:
                async with asyncio.timeout(_WATCH_S):
                    calls = await self._ledger.watch(self._replica, epoch, seen)
            except (LimitsUnavailable, TimeoutError):
                await asyncio.sleep(_BACKOFF_S[1])
                continue
            epoch, seen = calls.epoch, calls.seen
            self._notice(epoch)
            for counter, round_number in calls.counters:
                part = self._counters.get(counter)
                if part is not None:
                    part.call(round_number)
                    self.tell(part)

    def _report(self, parts: Iterable[Slice], *, leaving: bool = False) -> Report:
        self._seq += 1
        self._told_at = self._monotonic()
        now = self._wall()
        statements = tuple(part.state(now) for part in parts)
        return Report(
            replica=self._replica,
            epoch=self._epoch,
            seq=self._seq,
            version=self.version,
            statements=statements,
            leaving=leaving,
        )

    async def _missed(self, parts: Iterable[Slice], error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning("limit_ledger_silent", reason=str(error) or "no answer in time")
        for part in parts:
            self.tell(part)
        first, largest = _BACKOFF_S
        await asyncio.sleep(random.uniform(first / 2, min(largest, first * 2 ** min(self._failures, 10))))  # noqa: S311  jitter, not a secret

    def _hear(self, reply: Reply) -> None:
        self._failures, self._heard_at = 0, self._monotonic()
        self._notice(reply.epoch)
        for award in reply.awards:
            part = self._counters.get(award.counter)
            if part is not None and part.life == award.life and part.apply(award):
                self.tell(part)

    def _notice(self, epoch: str) -> None:
        """A ledger that has restarted knows nothing of what it had not written down: state everything, with rounds from 0."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        for part in self._counters.values():
            part.round = 0
            self.tell(part)

    def _look_after(self) -> None:
        now = self._wall()
        fenced = self._monotonic() - self._heard_at > _FENCE_S
        idle = self._monotonic() - self._idled_at > _IDLE_S
        if idle:
            self._idled_at = self._monotonic()
        for part in list(self._counters.values()):
            if now >= part.end and (part.is_over or now > part.end + _LATE_S):
                self._drop(part)
                continue
            if now >= part.end and part.lease > part.used:
                part.returning = True
                self.tell(part)
            if part.gauge and fenced:
                part.frozen = True
            if idle and not part.touched and part.lease > part.used:
                part.returning = True
                self.tell(part)
            part.touched = part.touched and not idle
            if self._should_tell(part, now):
                self.tell(part)
        self._prefetch(now)

    def _should_tell(self, part: Slice, now: float) -> bool:
        since = now - part.stated_at
        if part.needs:
            return since >= _REPEAT_S
        return since >= _REPORT_S and part.stated != (part.spent, part.used)

    def _drop(self, part: Slice) -> None:
        del self._counters[part.counter]
        key = (part.counter.limit, part.counter.subject)
        if self.current.get(key) is part:
            del self.current[key]
            self._rules.pop(key, None)

    def _prefetch(self, now: float) -> None:
        """Slices of the next window for counters in use, so that its first requests need not wait."""
        for key, part in self.current.items():
            lead = min(_PREFETCH_S, (part.end - part.counter.start) / 2)
            if not part.spent or key in self._next or not part.end - lead <= now < part.end:
                continue
            rule = self._rules[key]
            start, end = rule.next_window(part.end)
            fetched = self._next[key] = self._slice(CounterId(key[0], key[1], start), rule, end)
            fetched.batch = part.batch
            self.tell(fetched)


def _log_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("limits_task_died", task=task.get_name(), error=repr(task.exception()))
