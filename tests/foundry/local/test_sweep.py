"""The sweep ends the instance's processes, whatever they call themselves, and no others."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foundry.local import instance as instances
from foundry.local import sweep
from foundry.local.instance import ID_VARIABLE, SERVICE_VARIABLE, Instance
from foundry.settings import environment

from .conftest import FOREVER

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(code: str, **marks: str) -> subprocess.Popen[bytes]:
        clean = {name: value for name, value in environment().items() if name != ID_VARIABLE}
        command = [sys.executable, "-S", "-c", "print(flush=True);" + code]
        process = subprocess.Popen(command, env=clean | marks, start_new_session=True, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_only_marked_processes_end(instance: Instance, start: Start, tmp_path: Path) -> None:
    other = instances.load_or_create(tmp_path / "other")
    mine = start(FOREVER, **{ID_VARIABLE: instance.id})
    theirs = start(FOREVER, **{ID_VARIABLE: other.id})
    unmarked = start(FOREVER)
    told = sweep.end(sweep.find(instance))
    assert [line.split()[0] for line in told] == [str(mine.pid)]
    assert mine.poll() is not None
    assert theirs.poll() is None
    assert unmarked.poll() is None


def test_a_descendant_that_cleared_its_environment_ends_too(instance: Instance, start: Start) -> None:
    child = f"import subprocess,sys; subprocess.run([sys.executable,'-S','-c',{FOREVER!r}], env={{}})"
    start(child, **{ID_VARIABLE: instance.id})
    deadline = time.monotonic() + 5
    while len(found := sweep.find(instance)) < 2 and time.monotonic() < deadline:
        pass
    assert len(found) == 2
    sweep.end(found)
    assert sweep.find(instance) == []


def test_one_service_only(instance: Instance, start: Start) -> None:
    ray = start(FOREVER, **{ID_VARIABLE: instance.id, SERVICE_VARIABLE: "ray"})
    metrics = start(FOREVER, **{ID_VARIABLE: instance.id, SERVICE_VARIABLE: "metrics"})
    sweep.end(sweep.find(instance, service="ray"))
    assert ray.poll() is not None
    assert metrics.poll() is None


def test_one_that_ignores_sigterm_is_killed(instance: Instance, start: Start) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    process = start(code + "\nwhile True: signal.pause()", **{ID_VARIABLE: instance.id})
    sweep.end(sweep.find(instance), patience_s=0.3)
    assert process.poll() is not None
