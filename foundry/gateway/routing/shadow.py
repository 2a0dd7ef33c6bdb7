"""Shadow targets: they get copies of requests; what they answer is measured, recorded and thrown away.

A copy is sent after the caller's answer has begun, never delays it, and has a usage record of its own (`shadow` true, with its
own outcome and cost). At most `MAX_COPIES` run at once on a replica; more are left out. What it does not know: the answer that
the caller got.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from foundry.errors import FoundryError
from foundry.gateway.exchange import Exchange
from foundry.gateway.routing.asking import Ask, Asker, Live, require_whole
from foundry.gateway.routing.plan import Board, Plan
from foundry.gateway.routing.targets import Candidate
from foundry.gateway.snapshot import Index, Route
from foundry.gateway.transport import Patience

log = structlog.get_logger()

MAX_COPIES = 64
_OK = 200


class Shadows:
    """Sends copies; one per gateway replica. settle: writes a usage record."""

    def __init__(self, board: Board, asker: Asker, settle: Callable[[Exchange], None]) -> None:
        self._board = board
        self._asker = asker
        self._settle = settle
        self._tasks: set[asyncio.Task[None]] = set()

    def copy(self, ask: Ask, index: Index, route: Route) -> None:
        """Send the request to those of the route's shadow targets that are drawn for it."""
        plan = self._board.plan(index, route)
        if not plan.shadows:
            return
        now = self._board.clock()
        for candidate in plan.shadowed():
            if len(self._tasks) < MAX_COPIES and candidate.fit(now) and candidate.has_room():
                task = asyncio.create_task(self._run(_copied(ask, plan), candidate, plan.patience))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Cut every copy off; each is recorded for what came."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, ask: Ask, candidate: Candidate, patience: Patience) -> None:
        exchange, live = ask.exchange, None
        try:
            async with asyncio.timeout(patience.total_s):
                live = await self._asker.begin(ask, candidate.enter(self._board.clock()), patience)
                await _listen(exchange, live)
            exchange.status, exchange.outcome = _OK, "completed"
            live.attempt.outcome = "completed"
        except FoundryError as error:
            exchange.fail(error)
            exchange.status = error.status
            if live is not None:
                live.broke_off(exchange, error, self._board.clock())
        except TimeoutError:
            exchange.error_code = "upstream_timeout"  # longer than the route allows: what came is recorded
        finally:
            if live is not None:
                live.count(exchange)
                live.close()
            self._record(exchange)

    def _record(self, exchange: Exchange) -> None:
        try:
            self._settle(exchange)
        except FoundryError as error:
            log.warning("shadow_not_recorded", request_id=exchange.request_id, reason=str(error))


def _copied(ask: Ask, plan: Plan) -> Ask:
    told = ask.exchange
    exchange = Exchange(told.protocol, told.request_id)
    exchange.key, exchange.route, exchange.user = told.key, told.route, told.user
    exchange.streamed, exchange.request_bytes = told.streamed, told.request_bytes
    exchange.estimated, exchange.batch_id = told.estimated, told.batch_id
    exchange.shadow, exchange.policy = True, plan.routing.policy
    return Ask(ask.codec, ask.call, exchange, ask.wait)


async def _listen(exchange: Exchange, live: Live) -> None:
    """Read a stream to its end. Raises what ended it early."""
    if live.meter is None or live.chunks is None:
        return
    live.hear_first(exchange)
    async for data in live.chunks:
        live.hear(exchange, data)
        if live.meter.ended or live.meter.error is not None:
            break
    else:
        live.rest()
    require_whole(live.meter)
