"""Starting and stopping from outside, with a supervisor over small children in place of the platform's services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from foundry.errors import ProcessError
from foundry.local import instance as instances
from foundry.local import start, sweep
from foundry.local import state as states
from foundry.local.instance import ID_VARIABLE
from foundry.settings import environment

SMALL_TABLE = """
import sys
from foundry.local import assembly, services
from foundry.local.instance import SERVICE_VARIABLE
from foundry.local.probes import LogProbe

def table(instance, wanted):
    base = services.base_environment(instance)
    code = {code!r}
    command = [sys.executable, "-S", "-c", code]
    return [services.Service(name="one", command=command, env={{**base, SERVICE_VARIABLE: "one"}}, probe=LogProbe("ready"))]

async def watch(supervisor):
    return None

assembly.table, assembly.watch = table, watch
raise SystemExit(assembly.supervise())
"""
FINE = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    use(monkeypatch, tmp_path, FINE)
    yield tmp_path / "home"
    start.down(tmp_path / "home")


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    script = folder / "small_supervisor.py"
    script.write_text(textwrap.dedent(SMALL_TABLE.format(code=code)))

    def command(home: Path, *, models: bool, model_uris: tuple[str, ...]) -> list[str]:
        del models, model_uris
        return [sys.executable, str(script), "--home", str(home)]

    monkeypatch.setattr(start, "supervisor_command", command)


def up(home: Path) -> states.PlatformState:
    instance, _ = start.begin(home, models=False)
    return start.wait(instance, timeout_s=15)


def marked(home: Path) -> list[psutil.Process]:
    instance = instances.load(home)
    assert instance is not None
    return sweep.find(instance)


def test_up_twice_changes_nothing_and_down_leaves_nothing(home: Path) -> None:
    first = up(home)
    began = time.monotonic()
    second = up(home)
    assert time.monotonic() - began < 1.0
    assert second.supervisor_pid == first.supervisor_pid
    assert len(marked(home)) == 2
    stopped = start.down(home)
    assert stopped.was_running
    assert stopped.ended == ()
    assert marked(home) == []
    instance = instances.load(home)
    assert instance is not None
    assert not instance.temp_dir.exists()
    assert not start.is_running(home)
    assert start.down(home) == start.Stopped(was_running=False, ended=())


def test_a_killed_supervisor_is_healed_by_the_next_up(home: Path) -> None:
    first = up(home)
    child = first.services[0].pid
    os.kill(first.supervisor_pid, signal.SIGKILL)
    while start.is_running(home):
        time.sleep(0.01)  # bounded poll: the kernel has still to end it
    second = up(home)
    assert second.supervisor_pid != first.supervisor_pid
    assert second.ports == first.ports
    pids = {process.pid for process in marked(home)}
    assert child not in pids
    assert len(pids) == 2


def test_two_homes_do_not_touch_each_other(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    mine, theirs = up(home), up(other)
    assert not set(mine.ports.values()) & set(theirs.ports.values())
    start.down(home)
    assert marked(home) == []
    assert len(marked(other)) == 2
    start.down(other)


def test_two_ups_at_once_start_one_supervisor(home: Path, tmp_path: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from pathlib import Path
from foundry.local import start
start.supervisor_command = lambda home, **_: [sys.executable, {str(tmp_path / "small_supervisor.py")!r}, "--home", str(home)]
_, fresh = start.begin(Path({str(home)!r}), models=False)
print("fresh" if fresh else "found")
"""
    command = [sys.executable, "-c", code]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) for _ in range(2)]
    said = sorted(process.communicate(timeout=20)[0].strip() for process in pair)
    assert said == ["found", "fresh"]
    running = up(home)
    supervisor = psutil.Process(running.supervisor_pid)
    instance = instances.load(home)
    assert instance is not None
    assert supervisor.environ()[ID_VARIABLE] == instance.id  # one identity, whoever came first
    deadline = time.monotonic() + 10
    while len(marked(home)) != 2 and time.monotonic() < deadline:
        time.sleep(0.05)  # bounded poll: a process has no marker between its fork and its exec
    assert len(marked(home)) == 2


def test_a_crash_loop_fails_with_the_last_words(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tmp_path, "print('the disk is full', flush=True); raise SystemExit(4)")
    with pytest.raises(
        ProcessError, match=r"(?s)one: ended with status 4.*the disk is full.*foundry logs one"
    ):
        up(home)


def test_purge_deletes_the_home(home: Path) -> None:
    up(home)
    start.down(home, purge=True)
    assert not home.exists()
