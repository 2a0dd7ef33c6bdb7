"""The ledger: one per cluster, says who of the replicas may spend how much of which counter.

A plain asyncio class, itself a `LedgerClient` for a gateway in the same process; `serve_apps/limit_ledger.py` puts it into a Ray
actor. `sync` decides at once from what it knows; what needs other replicas is decided by rounds (`tally.py`), to which replicas are called
through `watch`. Run `run()` beside it: it finds the dead and the silent. What it does not know: requests, prices, Ray.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from secrets import token_hex

import structlog

from foundry.errors import LimitsUnavailable
from foundry.gateway.limits.journal import Journal, Row
from foundry.gateway.limits.tally import Entry, Tally
from foundry.gateway.limits.wire import Award, Calls, CounterId, Reply, Report, Statement

log = structlog.get_logger()

DEAD_AFTER_S = 10.0
"""A replica that is silent for so long is dead: its slices count as spent, its concurrency comes back."""
_RECALL_S = 2.0
"""A round does not wait longer than this for a replica."""
_TICK_S = 0.25
_WATCH_S = 5.0
_KEEP_S = 120.0
"""Counters are kept so long after their window, for requests that settle late."""


class _Peer:
    """One live replica: when it was heard, and what it is to be told."""

    __slots__ = ("calls", "heard_at", "rings", "seen", "seq")

    def __init__(self, heard_at: float) -> None:
        self.heard_at = heard_at
        self.seq = self.seen = 0
        self.calls: dict[CounterId, tuple[int, int]] = {}
        self.rings = asyncio.Event()

    def call(self, counter: CounterId, round_number: int) -> None:
        self.seen += 1
        self.calls[counter] = (self.seen, round_number)
        self.rings.set()

    def forget(self, seen: int) -> None:
        for counter in [counter for counter, (number, _) in self.calls.items() if number <= seen]:
            del self.calls[counter]


class Ledger:
    """journal: where leases are written before they are told; None: memory only. wall: seconds since 1970 (windows);
    monotonic: any steady seconds (who is alive). recall_s, dead_after_s: see the constants."""

    def __init__(
        self,
        journal: Journal | None = None,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        recall_s: float = _RECALL_S,
        dead_after_s: float = DEAD_AFTER_S,
    ) -> None:
        self.epoch = token_hex(8)
        self._journal = journal
        self._wall, self._monotonic = wall, monotonic
        self._recall_s, self._dead_after_s = recall_s, dead_after_s
        self._tallies: dict[CounterId, Tally] = {}
        self._peers: dict[str, _Peer] = {}
        self._rounds: dict[CounterId, float] = {}  # when the round under way began
        if journal is not None:
            self._restore(journal.load())

    async def sync(self, report: Report) -> Reply:
        """Take in what a replica states, and answer. An old or repeated report is not acted on."""
        self._tick()
        peer = self._peer(report.replica)
        if report.seq <= peer.seq:
            return Reply(report.seq, self.epoch, ())
        peer.seq = report.seq
        awards = [self._state(report, statement) for statement in report.statements]
        self._write(report.replica, [award.counter for award in awards])
        if report.leaving:
            self._bury(report.replica)
        return Reply(report.seq, self.epoch, tuple(awards))

    async def watch(self, replica: str, epoch: str, seen: int) -> Calls:
        """Calls newer than `seen`; waits for one for a few seconds."""
        peer = self._peer(replica)
        peer.forget(seen if epoch == self.epoch else 0)
        if not peer.calls:
            peer.rings.clear()
            try:
                async with asyncio.timeout(_WATCH_S):
                    await peer.rings.wait()
            except TimeoutError:
                pass
        counters = tuple((counter, round_number) for counter, (_, round_number) in peer.calls.items())
        return Calls(self.epoch, peer.seen, counters)

    async def run(self) -> None:
        """Look for the dead and the silent, and drop what is over, until cancelled."""
        while True:
            self._tick()
            self._sweep()
            await asyncio.sleep(_TICK_S)

    def close(self) -> None:
        """Let go of the journal; the ledger must not be used afterwards."""
        if self._journal is not None:
            self._journal.close()

    def tally(self, counter: CounterId) -> Tally | None:
        """One counter's state, for tests and for people who look."""
        return self._tallies.get(counter)

    def _peer(self, replica: str) -> _Peer:
        now = self._monotonic()
        peer = self._peers.get(replica)
        if peer is None:
            peer = self._peers[replica] = _Peer(now)
        peer.heard_at = now
        return peer

    def _state(self, report: Report, statement: Statement) -> Award:
        tally = self._tallies.get(statement.counter)
        if tally is None:
            tally = self._tallies[statement.counter] = Tally(
                statement.counter,
                cap=statement.cap,
                end=statement.end,
                gauge=statement.gauge,
                version=report.version,
            )
        tally.hear(report.replica, statement, report.version, same_epoch=report.epoch == self.epoch)
        self._advance(tally, report.replica)
        return tally.award(report.replica, statement.want, len(self._peers))

    def _advance(self, tally: Tally, speaker: str | None = None) -> None:
        before = tally.round
        tally.advance(self._peers.keys(), speaker)
        for name in tally.calls - {speaker}:  # the speaker is told in the answer
            peer = self._peers.get(name)
            if peer is not None:
                peer.call(tally.counter, tally.round)
        tally.calls.clear()
        if not tally.waits:
            self._rounds.pop(tally.counter, None)
        elif tally.round != before or tally.counter not in self._rounds:
            self._rounds[tally.counter] = self._monotonic()

    def _tick(self) -> None:
        now = self._monotonic()
        for name in [name for name, peer in self._peers.items() if now - peer.heard_at > self._dead_after_s]:
            log.warning("gateway_replica_silent", replica=name, after_s=self._dead_after_s)
            self._bury(name)
        for counter, began in list(self._rounds.items()):
            if now - began > self._recall_s:
                tally = self._tallies[counter]
                self._rounds[counter] = now
                tally.give_up_waiting()
                self._advance(tally)

    def _bury(self, replica: str) -> None:
        self._peers.pop(replica, None)
        for tally in self._tallies.values():
            tally.drop(replica)
            if tally.waits:
                self._advance(tally)

    def _sweep(self) -> None:
        over = self._wall() - _KEEP_S
        for counter in [counter for counter, tally in self._tallies.items() if tally.end < over]:
            del self._tallies[counter]
            self._rounds.pop(counter, None)
        if self._journal is not None and self._journal.is_mostly_old(len(self._tallies)):
            self._journal.rewrite(row for tally in self._tallies.values() for row in _rows(tally))

    def _write(self, replica: str, counters: Iterable[CounterId]) -> None:
        if self._journal is None:
            return
        changed = [
            tally
            for tally in map(self._tallies.__getitem__, counters)
            if _is_unwritten(tally.entries[replica])
        ]
        rows = [row for tally in changed for row in _rows(tally) if row.replica in {replica, ""}]
        try:
            self._journal.append(rows)
            for tally in changed:
                tally.entries[replica].written = tally.entries[replica].claim
        except OSError as error:
            raise LimitsUnavailable(
                f"the ledger of limits cannot write its journal: {error}", retry_after_s=5.0
            ) from error

    def _restore(self, rows: Iterable[Row]) -> None:
        now, over = self._monotonic(), self._wall() - _KEEP_S
        for row in rows:
            if row.end < over:
                continue
            tally = self._tallies.get(row.counter)
            if tally is None:
                tally = self._tallies[row.counter] = Tally(
                    row.counter, cap=row.cap, end=row.end, gauge=row.gauge, version=row.version
                )
            if row.replica:
                tally.entries[row.replica] = Entry(row.life, row.lease, row.spent)
                self._peers.setdefault(row.replica, _Peer(now))
            else:
                tally.retired = row.spent


def _is_unwritten(entry: Entry) -> bool:
    return entry.written != entry.claim


def _rows(tally: Tally) -> Iterable[Row]:
    def row(replica: str, life: int, lease: int, spent: int) -> Row:
        return Row(
            tally.counter, tally.end, tally.gauge, tally.cap, tally.version, replica, life, lease, spent
        )

    if tally.retired:
        yield row("", 0, 0, tally.retired)
    for name, entry in tally.entries.items():
        yield row(name, entry.life, entry.claim, entry.spent)
