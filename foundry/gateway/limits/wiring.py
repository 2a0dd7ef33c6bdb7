"""The limits of one gateway replica, put together: its limiter, and a ledger of its own where it is the only replica.

What it does not know: requests.
"""

from __future__ import annotations

import asyncio

from foundry.gateway.limits.journal import Journal
from foundry.gateway.limits.ledger import Ledger
from foundry.gateway.limits.limiter import Limiter
from foundry.gateway.limits.wire import LedgerClient
from foundry.settings import Settings


class Limits:
    """replica: its unique name. ledger: shared by all replicas; None: there is only this one."""

    def __init__(self, settings: Settings, replica: str, ledger: LedgerClient | None) -> None:
        self._own: Ledger | None = None
        self._running: asyncio.Task[None] | None = None
        if ledger is None:
            ledger = self._own = Ledger(Journal.of(settings))
        self.limiter = Limiter(ledger, replica)

    def start(self, *, talk: bool) -> None:
        """Begin the background work. talk: to the ledger already now; else the first request that a limit holds for does it."""
        if self._own is not None:
            self._running = asyncio.create_task(self._own.run(), name="limit-ledger")
        if talk:
            self.limiter.start()

    async def stop(self) -> None:
        """Give everything back."""
        await self.limiter.stop()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._own is not None:
            self._own.close()
