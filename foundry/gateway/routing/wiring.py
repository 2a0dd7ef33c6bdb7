"""Routing's parts of one gateway replica, put together. What it does not know: what each of them does."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from foundry.gateway.exchange import Exchange
from foundry.gateway.routing.asking import Asker
from foundry.gateway.routing.dispatch import Dispatcher
from foundry.gateway.routing.hold import Holder
from foundry.gateway.routing.plan import Board
from foundry.gateway.routing.probe import Prober
from foundry.gateway.routing.shadow import Shadows
from foundry.gateway.routing.targets import Clock
from foundry.gateway.snapshot import SnapshotStore
from foundry.gateway.transport import Transport


class Routing:
    """Everything that the lifecycle needs to have a request answered. settle: writes a usage record."""

    def __init__(
        self,
        transport: Transport,
        snapshots: SnapshotStore,
        settle: Callable[[Exchange], None],
        *,
        clock: Clock = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self.board = Board(transport=transport, clock=clock, random=random or Random())  # noqa: S311  draws shares, guards nothing
        asker = Asker(transport, clock)
        self.holder = Holder(snapshots, self.board)
        self.dispatcher = Dispatcher(self.board, asker, self.holder)
        self.shadows = Shadows(self.board, asker, settle)
        self._prober = Prober(transport)
        self.board.watch = self._prober.watch

    async def aclose(self) -> None:
        """End the background work: copies to shadow targets, probes."""
        await self.shadows.aclose()
        await self._prober.aclose()
