"""Hedging: a second target is asked when the first has not begun to answer in time; the first byte wins.

The loser is closed at once. What it told is billed; of one that had told nothing yet, the input is billed by estimate, as the
target has begun to work on it. What it does not know: which targets, and whether the route may hedge (`dispatch.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from foundry.errors import FoundryError
from foundry.gateway.exchange import Exchange
from foundry.gateway.routing.asking import Live, estimate

Begin = Callable[
    [], Coroutine[Any, Any, Live]
]  # Any: what coroutines yield to and get from the loop is the loop's own
Second = Callable[[], Begin | None]
"""Called when the time is up: the second try, or None when there is no target or no share left for it."""


async def hedged(exchange: Exchange, first: Begin, after_s: float, second: Second) -> Live:
    """The answer that began first. Raises the first try's error when both fail."""
    tasks: list[asyncio.Task[Live]] = [asyncio.create_task(first())]
    try:
        await asyncio.wait(tasks, timeout=after_s)
        if not tasks[0].done() and (also := second()) is not None:
            tasks.append(asyncio.create_task(also()))
        winner = await _first_success(tasks)
    except BaseException:
        await _stop(exchange, tasks, None)
        raise
    await _stop(exchange, tasks, winner)
    live = winner.result()
    for attempt in exchange.attempts:
        if attempt is not live.attempt and attempt.outcome == "aborted" and attempt.usage_source == "none":
            attempt.count(estimate(exchange, 0), "estimated")
    exchange.answered_by(live.attempt)
    return live


async def _first_success(tasks: list[asyncio.Task[Live]]) -> asyncio.Task[Live]:
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None:
                return task
    tasks[0].result()  # raises
    raise AssertionError  # never reached: every task has failed


async def _stop(
    exchange: Exchange, tasks: list[asyncio.Task[Live]], winner: asyncio.Task[Live] | None
) -> None:
    """Cancel the others and wait for them; an answer that began at the same moment is closed and counted."""
    losers = [task for task in tasks if task is not winner]
    for task in losers:
        task.cancel()
    for ended in await asyncio.gather(*losers, return_exceptions=True):
        if isinstance(ended, Live):
            ended.count(exchange)
            ended.close()
        elif not isinstance(ended, FoundryError | asyncio.CancelledError):
            raise ended
