"""Streams that are open on this replica, and what each has cost so far, on disk: so that a killed replica's streams are billed.

A draft of the usage record is written before a stream's head goes out and renewed every `TICK_S` while it runs; nothing is done per
chunk. What passed between the last renewal and the death is not billed: at most `TICK_S` of a stream, with more than `PER_TICK` of them
open `TICK_S` for every `PER_TICK`. What it does not know: the file (`metrics/open_streams.py`), who settles it (`metrics/writer.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

import structlog

from foundry.errors import SpoolFull
from foundry.gateway.exchange import Exchange
from foundry.gateway.routing.asking import Live
from foundry.metrics.open_streams import OpenStreams
from foundry.telemetry import new_id
from foundry.types.usage import UsageRecord

TICK_S = 0.25
PER_TICK = 256
"""Drafts renewed at once: 25 us each, so at most 3% of the CPU, however many streams are open."""

log = structlog.get_logger()


class OpenStream:
    """One of them."""

    __slots__ = ("exchange", "live", "slot", "told_bytes")

    def __init__(self, exchange: Exchange, live: Live | None) -> None:
        self.exchange = exchange
        self.live = live
        """The answer that passes on; None while the caller is only told to wait."""
        self.slot = -1
        self.told_bytes = 0
        """`response_bytes` at the last renewal."""


class Progress:
    """One per gateway replica. cluster, gateway: named in the records."""

    def __init__(self, journal: OpenStreams, *, cluster: str, gateway: str) -> None:
        self._journal = journal
        self._cluster = cluster
        self._gateway = gateway
        self._open: dict[int, OpenStream] = {}
        self._round: Iterator[OpenStream] = iter(())

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, exchange: Exchange, live: Live | None) -> None:
        """A stream's head goes out next, or another answer goes on in it. Raises SpoolFull: the head must not go out then."""
        opened = exchange.opened
        if opened is not None:
            opened.live = live
            self._renew(opened)
            return
        opened = OpenStream(exchange, live)
        exchange.record_id = new_id("use")
        opened.slot = self._journal.begin(self._draft(opened))
        exchange.opened = self._open[opened.slot] = opened

    def end(self, exchange: Exchange) -> None:
        """Its record is written. Synchronous: it also runs under cancellation."""
        opened = exchange.opened
        if opened is not None:
            exchange.opened = None
            del self._open[opened.slot]
            try:
                self._journal.end(opened.slot)
            except SpoolFull as error:  # settled once more if this process dies, under the same id: harmless
                log.warning("open_stream_not_closed", request_id=exchange.request_id, reason=str(error))

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            if self._open:
                self.tick()

    def tick(self) -> None:
        """Renew the drafts of the next `PER_TICK` streams of which more has been passed on."""
        due = list(islice(self._round, PER_TICK))
        if len(due) < PER_TICK:
            self._round = iter(list(self._open.values()))
            due += islice(self._round, PER_TICK - len(due))
        for opened in due:
            if opened.exchange.opened is opened and opened.exchange.response_bytes != opened.told_bytes:
                try:
                    self._renew(opened)
                except SpoolFull as error:
                    log.warning(
                        "open_stream_not_noted", request_id=opened.exchange.request_id, reason=str(error)
                    )

    def close(self) -> None:
        """End of the process."""
        self._journal.close()

    def _renew(self, opened: OpenStream) -> None:
        self._journal.update(opened.slot, self._draft(opened))

    def _draft(self, opened: OpenStream) -> UsageRecord:
        exchange = opened.exchange
        opened.told_bytes = exchange.response_bytes
        if opened.live is not None:
            opened.live.count(exchange)
        return exchange.record(cluster=self._cluster, gateway=self._gateway)
