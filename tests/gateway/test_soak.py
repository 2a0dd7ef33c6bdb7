"""Callers of every kind for a while: what was recorded is what happened, and nothing grows. `--soak-minutes 30` for the long one."""

# Private names: what must be at rest is counted inside.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import gc
import re
import time
from pathlib import Path

import psutil
import pytest

from foundry.gateway.limits.rules import CONCURRENCY
from tests.gateway.soak_rig import Soak, Sum, call_until, soak_rig

CALLERS = 8
GROWTH = 1.05
WARM_SHARE = 0.35
"""Of the time: caches, pools and the allocator's arenas have their size after it."""


def _memory() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def _kinds_of_tasks() -> set[str]:
    return {re.sub(r"\d+", "", task.get_name()) for task in asyncio.all_tasks()}


async def _run(soak: Soak, seconds: float) -> tuple[int, int]:
    """Memory after warming up and at the end."""
    stopping = asyncio.Event()
    callers = [asyncio.create_task(call_until(soak, stopping, number)) for number in range(CALLERS)]
    begun, warm = time.monotonic(), 0
    try:
        while (passed := time.monotonic() - begun) < seconds:
            await asyncio.sleep(1.0)  # a new snapshot every second is what the test is about
            soak.swap()
            if not warm and passed > seconds * WARM_SHARE:
                warm = _memory()
            for caller in callers:
                if caller.done():
                    caller.result()
    finally:
        stopping.set()
        await asyncio.gather(*callers)
    return warm, _memory()


@pytest.mark.chaos
@pytest.mark.timeout(7200)
async def test_a_long_mixed_load_leaves_right_sums_and_nothing_else(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    minutes = float(str(request.config.getoption("--soak-minutes")))
    async with soak_rig(tmp_path) as soak:
        before = _kinds_of_tasks()
        warm, at_end = await _run(soak, minutes * 60)
        await _drained(soak, before)
        _check_sums(soak)
        assert soak.statuses["cache hit"]
        assert soak.statuses["cache miss"]
        assert soak.statuses["limited 429"]
        assert at_end <= warm * GROWTH, f"memory grew from {warm} to {at_end} bytes"


async def _drained(soak: Soak, before: set[str]) -> None:
    """Every counter is back at nothing, and no task or connection is left."""
    gateway, connector = soak.gateway, soak.gateway._transport.session.connector
    assert connector is not None
    async with asyncio.timeout(15):
        while (
            gateway._traffic.in_flight
            or len(gateway.progress)
            or connector._acquired
            or _kinds_of_tasks() - before
        ):
            await asyncio.sleep(0.05)  # poll: bounded by the timeout above
    board = gateway.routing.board
    assert all(state.in_flight == 0 and state.waiting == 0 for state in board.targets.values())
    assert all(len(memory.queue) == 0 for memory in board._memories.values())
    rules = gateway.snapshots.current().limits.rules
    counted = {rule.id for rule in rules if rule.meter == CONCURRENCY}
    parts = gateway.limits.limiter.shares.current
    used = [part.used for (limit, _), part in parts.items() if limit in counted]
    assert used
    assert not any(used)


def _check_sums(soak: Soak) -> None:
    told, expected = soak.told.by_outcome, soak.expected
    assert {name: one.requests for name, one in told.items()} == {
        name: one.requests for name, one in expected.items()
    }
    for outcome in ("completed", "failed", "rejected"):
        assert told.get(outcome, Sum()) == expected.get(outcome, Sum()), outcome
    assert told["aborted"].output_tokens >= soak.seen_before_leaving
