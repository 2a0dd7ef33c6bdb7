"""The supervisor over small real processes: order, restart, back-off, tasks, parent death, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from foundry.local import state as states
from foundry.local import supervisor as supervisors
from foundry.local.instance import ID_VARIABLE, Instance
from foundry.local.probes import LogProbe
from foundry.local.services import Service
from foundry.local.state import PlatformState
from foundry.local.supervisor import Supervisor
from foundry.settings import environment

from .conftest import FOREVER

READY = "print('ready now', flush=True);" + FOREVER
Make = Callable[..., Service]


@asynccontextmanager
async def running(instance: Instance, *services: Service) -> AsyncGenerator[Supervisor]:
    state = PlatformState(instance_id=instance.id, supervisor_pid=os.getpid(), started_at=time.time())
    supervisor = Supervisor(instance, services, state)
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.stop()
        await asyncio.wait_for(task, 20)


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_dependencies_are_ready_first_and_stop_in_reverse(
    instance: Instance, python_service: Make
) -> None:
    base = python_service("base", READY, probe=LogProbe("ready "), stop_after=("top",))
    top = python_service("top", READY, probe=LogProbe("ready "), needs=("base",))
    async with running(instance, top, base) as supervisor:
        await until(lambda: supervisor.state.phase == "ready")
        lines = {name: one.state for name, one in supervisor.supervised.items()}
        base_pid, top_pid = lines["base"].pid, lines["top"].pid
        assert base_pid is not None
        assert top_pid is not None
        assert psutil.Process(base_pid).create_time() <= psutil.Process(top_pid).create_time()
        assert psutil.Process(base_pid).environ()[ID_VARIABLE] == instance.id
        told = states.read(instance.layout.state_file)
        assert told is not None
        assert [line.name for line in told.services] == ["top", "base"]
    assert not psutil.pid_exists(base_pid)
    assert not psutil.pid_exists(top_pid)
    told = states.read(instance.layout.state_file)
    assert told is not None
    assert told.phase == "stopped"


async def test_a_killed_child_is_started_again(instance: Instance, python_service: Make) -> None:
    async with running(instance, python_service("one", READY, probe=LogProbe("ready "))) as supervisor:
        one = supervisor.supervised["one"]
        await until(one.settled.is_set)
        first = one.state.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: one.state.restarts == 1)
        assert "SIGKILL" in one.state.detail
        await until(one.settled.is_set)
        assert one.state.pid != first


async def test_a_crash_loop_backs_off_and_shows(
    instance: Instance, python_service: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisors, "BACKOFF_FIRST_S", 0.05)
    crash = python_service(
        "bad", "print('no such file: x', flush=True); raise SystemExit(3)", probe=LogProbe("ready ")
    )
    async with running(instance, crash) as supervisor:
        line = supervisor.supervised["bad"].state
        await until(lambda: line.phase == "failed")
        assert line.restarts == supervisors.GIVEN_UP_AFTER
        assert "status 3" in line.detail
        assert line.last_log_line == "no such file: x"
        await until(lambda: supervisor.state.phase == "failed")


def test_back_off_doubles_to_its_limit_and_is_reset_by_health(
    instance: Instance, python_service: Make
) -> None:
    one = supervisors.Supervised(python_service("one", READY), lambda: None)
    one.state.ready_after_s = 1.0
    delays = [one.failed(1, 0.0) for _ in range(8)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert one.failed(1, supervisors.HEALTHY_AFTER_S) == 0.5


async def test_a_task_runs_once_and_its_dependents_wait(
    instance: Instance, python_service: Make, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    task = python_service(
        "task", f"import pathlib; pathlib.Path({str(mark)!r}).write_text('done')", kind="task"
    )
    code = f"import pathlib,sys; sys.stdout.write('ready ' + pathlib.Path({str(mark)!r}).read_text() + chr(10)); sys.stdout.flush();"
    after = python_service("after", code + FOREVER, needs=("task",), probe=LogProbe("ready done"))
    async with running(instance, task, after) as supervisor:
        await until(lambda: supervisor.state.phase == "ready")
        assert supervisor.supervised["task"].state.phase == "done"
        assert supervisor.supervised["task"].state.restarts == 0


async def test_a_child_that_ignores_sigterm_is_killed(instance: Instance, python_service: Make) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)\nwhile True: signal.pause()"
    stubborn = python_service("stubborn", code, probe=LogProbe("ready"), stop_timeout_s=0.3)
    async with running(instance, stubborn) as supervisor:
        await until(supervisor.supervised["stubborn"].settled.is_set)
        pid = supervisor.supervised["stubborn"].state.pid
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_children_die_with_a_killed_supervisor(instance: Instance) -> None:
    code = f"""
import asyncio, os, sys
from pathlib import Path
from foundry.local.process import Child
async def main():
    child = await Child.start([sys.executable, "-S", "-c", {FOREVER!r}], dict(os.environ), Path({str(instance.home / "c.log")!r}))
    print(child.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment()
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        child.wait(timeout=5)
