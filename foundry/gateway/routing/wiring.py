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
from foundry.gateway.routing.wake import Waker
from foundry.gateway.snapshot import SnapshotStore
from foundry.gateway.transport import Transport


class Routing:
    """Everything that the lifecycle needs to have a request answered. settle: writes a usage record."""

    def __init__(
        self, transport: Transport, snapshots: SnapshotStore, settle: Callable[[Exchange], None]
    ) -> None:
        self.board = Board(transport=transport, clock=time.monotonic, random=Random())  # noqa: S311  draws shares, guards nothing
        asker = Asker(transport, self.board)
        self.waker = Waker(transport, snapshots, time.monotonic)
        self.holder = Holder(snapshots, self.board)
        self.holder.wake = self.waker
        self.dispatcher = Dispatcher(self.board, asker, self.holder)
        self.shadows = Shadows(self.board, asker, settle)
        self.prober = Prober(transport, snapshots)
        self.board.watch = self.prober.watch

    async def aclose(self) -> None:
        """End the background work: copies to shadow targets, probes, engines that are asked for."""
        await self.shadows.aclose()
        await self.prober.aclose()
        await self.waker.aclose()
