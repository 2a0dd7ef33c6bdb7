"""What replicas and the ledger say to each other.

A replica speaks (`Report`), the ledger answers (`Reply`); in between it may only ask to be told (`Calls`). Everything
stated is absolute, so a message that comes twice or never does no harm, and `seq` tells an old one from a new one. Amounts are
whole units: requests, tokens, or 10^-12 dollars. What it does not know: how they travel.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class CounterId(msgspec.Struct, frozen=True, order=True):
    """One counter: of a limit, for one subject, in the window that starts then (seconds since 1970)."""

    limit: str
    subject: str
    start: int


class Need(msgspec.Struct, frozen=True):
    """A request that waits for this much; `id` is unique in its replica."""

    id: int
    amount: int


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """How one replica stands with one counter, as it sends."""

    counter: CounterId
    life: int
    """Grows when the replica begins anew with this counter (after a restart, or having dropped it)."""
    cap: int
    end: float
    """When the window ends, seconds since 1970."""
    gauge: bool
    """Concurrency: what is held comes back, nothing is spent."""
    spent: int
    """Settled, cumulative over this life."""
    held: int
    """Reserved by requests in flight."""
    lease: int
    """How much of the cap it keeps for itself, `spent` and `held` included. It may lower it; only a Reply raises it."""
    frozen: bool
    """It admits nothing by itself: each request asks the ledger."""
    round: int
    """The latest call for this counter that it has heard."""
    want: int = 0
    """Room it would like besides the needs."""
    needs: tuple[Need, ...] = ()
    """All that wait; one that is not named again is withdrawn."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One replica speaks; it has one report under way at a time."""

    replica: str
    epoch: str
    """Of the ledger that it last heard; rounds of another one mean nothing."""
    seq: int
    version: int
    """Snapshot that `cap` comes from: the newest one counts."""
    statements: tuple[Statement, ...]
    leaving: bool = False
    """The replica stops, nothing is in flight any more."""


class Award(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's answer for one counter."""

    counter: CounterId
    life: int
    lease: int
    """Replaces the lease that was stated; what `granted` asked for is in it."""
    tight: bool
    """The limit is near: admit nothing without asking (`Statement.frozen`)."""
    round: int
    spent_elsewhere: int
    """Settled by all others: never sinks, so it proves a refusal."""
    used_elsewhere: int
    """The same with what they hold, as last heard."""
    granted: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    """Needs by id; those in neither are still being decided."""


class Reply(msgspec.Struct, frozen=True):
    """The ledger's answer to one report."""

    seq: int
    epoch: str
    """Changes when the ledger restarts: replicas then state everything again."""
    awards: tuple[Award, ...]


class Calls(msgspec.Struct, frozen=True):
    """Counters that the ledger wants to hear about at once, each with its round."""

    epoch: str
    seen: int
    """Pass it to the next `watch`."""
    counters: tuple[tuple[CounterId, int], ...]


class LedgerClient(Protocol):
    """The ledger as replicas reach it. Both raise LimitsUnavailable when it does not answer."""

    async def sync(self, report: Report) -> Reply:
        """Tell and be told; never waits for other replicas."""
        ...

    async def watch(self, replica: str, epoch: str, seen: int) -> Calls:
        """Wait until there are calls newer than `seen` (of that epoch), or a while; then also without any."""
        ...
