"""The worker process: it is replaced when it dies or hangs, bounded in number, and never outlives its gateway."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from foundry.errors import GuardrailUnavailable
from foundry.gateway.guardrails.workers import Workers

pytestmark = pytest.mark.long

KEY = "AKIAIOSFODNN7EXAMPLE"
LONG = "the quick brown fox " * 20_000


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


def _children() -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        try:
            if "foundry.gateway.guardrails.worker" in child.cmdline():
                found.append(child)
        except psutil.ZombieProcess:
            continue  # another test's, not yet waited for
    return found


async def test_no_process_before_the_first_question_and_none_after_close(workers: Workers) -> None:
    before = _children()
    await workers.run(lambda: None)  # guards that only need a thread start no process
    assert _children() == before
    assert await workers.ask("secrets", "{}", [KEY], 20.0)
    (process,) = set(_children()) - set(before)
    workers.close()
    assert not process.is_running()


async def test_a_worker_that_was_killed_is_replaced(workers: Workers) -> None:
    await workers.ask("secrets", "{}", [KEY], 20.0)
    for child in _children():
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    (found,) = await workers.ask("secrets", "{}", [KEY], 20.0)
    assert found.label == "AWS Access Key"


async def test_waiting_for_a_busy_worker_counts_against_the_timeout(workers: Workers) -> None:
    await workers.ask("jailbreak", "{}", ["warm"], 20.0)
    slow = asyncio.create_task(workers.ask("jailbreak", "{}", [LONG], 60.0))
    await asyncio.sleep(0)  # it is in the queue first
    with pytest.raises(GuardrailUnavailable, match="busy"):
        await workers.ask("jailbreak", "{}", ["hello"], 0.01)
    assert await slow == []  # and was not disturbed


async def test_a_guard_that_cannot_be_made_says_why(workers: Workers) -> None:
    with pytest.raises(GuardrailUnavailable, match="no detector Tarot"):
        await workers.ask("secrets", '{"detectors": ["Tarot"]}', [KEY], 20.0)
    assert await workers.ask("secrets", '{"detectors": ["AWS Access Key"]}', [KEY], 20.0)


def test_a_worker_ends_when_its_gateway_is_killed() -> None:
    code = (
        "import asyncio, time\n"
        "from foundry.gateway.guardrails.workers import Workers\n"
        "workers = Workers()\n"
        "asyncio.run(workers.ask('secrets', '{}', ['x'], 30.0))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        for line in parent.stdout:
            if line.strip() == "ready":
                break
        (worker,) = psutil.Process(parent.pid).children()
        parent.kill()
    assert psutil.wait_procs([worker], timeout=20)[1] == []
