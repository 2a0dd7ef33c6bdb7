"""Start, find and stop an instance from outside: what `foundry up` and `foundry down` do, without the display.

`up` starts at most one detached supervisor per home, heals what a killed one left, and waits. `down` ends exactly what the instance
started. Both are idempotent. What it does not know: terminals, or what the supervisor runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import psutil

from foundry.errors import ProcessError
from foundry.local import instance as instances
from foundry.local import state as states
from foundry.local import sweep
from foundry.local.files import is_locked, locked, tail
from foundry.local.instance import ID_VARIABLE, SERVICE_VARIABLE, Instance, Layout
from foundry.local.state import PlatformState

_POLL_S: Final = 0.2
_FIRST_STATE_S: Final = 30.0
_STOP_S: Final = 90.0


class Stopped(msgspec.Struct, frozen=True):
    """What `down` did."""

    was_running: bool
    ended: tuple[str, ...]
    """Processes that outlived the orderly stop, or a supervisor that had been killed; one line each."""


def is_running(home: Path) -> bool:
    """Whether a supervisor of this home lives."""
    return is_locked(Layout(home).supervisor_lock)


def begin(home: Path, *, models: bool = True, model_uris: Sequence[str] = ()) -> tuple[Instance, bool]:
    """Have a supervisor running and telling its state; (instance, whether this call started it).

    With one that runs already and something new to deploy, that is deployed through it. Raises ProcessError, ConfigurationError.
    """
    layout = Layout(home)
    layout.make()
    with locked(layout.up_lock):
        instance = instances.load_or_create(
            home
        )  # under the lock: two first calls at once must not make two identities
        if is_running(home):
            _deploy_into_running(instance, models=models, model_uris=tuple(model_uris))
            return _reload(home), False
        supervisor = _spawn(instance, models=models, model_uris=model_uris)
        _await_first_state(instance, supervisor)
    return _reload(home), True


def wait(
    instance: Instance, *, timeout_s: float, on_state: Callable[[PlatformState], None] | None = None
) -> PlatformState:
    """Until the platform is ready. Raises ProcessError with the failing service's last words, or after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        state = states.read(instance.layout.state_file)
        if state is not None and on_state is not None:
            on_state(state)
        if state is not None and state.phase == "ready" and is_running(instance.home):
            return state
        if state is not None and state.phase == "failed":
            raise ProcessError(failure_text(instance, state))
        if not is_running(instance.home):
            words = "\n".join(tail(instance.layout.log("supervisor"), 10))
            raise ProcessError(f"the supervisor ended while the platform was starting:\n{words}")
        if time.monotonic() > deadline:
            waiting = (
                ", ".join(s.name for s in state.services if s.phase not in states.SETTLED)
                if state
                else "everything"
            )
            raise ProcessError(
                f"not ready after {timeout_s:g} s, still waiting for: {waiting}; it goes on starting: see `foundry status`"
            )
        time.sleep(_POLL_S)


def up(
    home: Path, *, models: bool = True, timeout_s: float = 900.0, model_uris: Sequence[str] = ()
) -> Instance:
    """Start (or find) the instance in `home` and wait until it is ready. For tests and scripts. Raises ProcessError."""
    instance, _started = begin(home, models=models, model_uris=model_uris)
    wait(instance, timeout_s=timeout_s)
    return _reload(home)


def down(home: Path, *, purge: bool = False) -> Stopped:
    """Stop everything that the instance started; with `purge` also delete its home. Harmless when nothing runs."""
    instance = instances.load(home)
    if instance is None:
        return Stopped(was_running=False, ended=())
    with locked(instance.layout.up_lock):
        was_running = _stop_supervisor(instance)
        ended = sweep.end(sweep.find(instance))
        from foundry.local.assembly import remove_temp_dir

        remove_temp_dir(instance)
        if purge:
            _purge(instance)
        else:
            for leftover in (instance.layout.state_file, instance.layout.supervisor_lock):
                leftover.unlink(missing_ok=True)
    return Stopped(was_running=was_running, ended=tuple(ended))


def failure_text(instance: Instance, state: PlatformState) -> str:
    """The failing services, their last log lines and the next step, for a person."""
    parts: list[str] = []
    for service in state.services:
        if service.phase == "failed":
            lines = tail(instance.layout.log(service.name), 12) or [service.last_log_line]
            quoted = "\n".join(f"    {line}" for line in lines if line)
            parts.append(f"{service.name}: {service.detail}\n{quoted}")
    named = next((service.name for service in state.services if service.phase == "failed"), "supervisor")
    return "\n".join(
        [
            *parts,
            f"next: `foundry logs {named}` for the whole log, then `foundry down` and `foundry up` when it is mended",
        ]
    )


def _reload(home: Path) -> Instance:
    found = instances.load(home)
    if found is None:
        raise ProcessError(f"{home} vanished while the instance was starting")
    return found


def supervisor_command(home: Path, *, models: bool, model_uris: Sequence[str]) -> list[str]:
    """The supervisor's command line."""
    command = [sys.executable, "-m", "foundry.local.supervisor", "--home", str(home)]
    command += [] if models else ["--no-models"]
    for uri in model_uris:
        command += ["--model", uri]
    return command


def supervisor_environment(instance: Instance) -> dict[str, str]:
    """The caller's environment and the instance's marker, with this code on the path."""
    import foundry
    from foundry.settings import environment

    inherited = environment()
    code_root = str(Path(foundry.__file__).parent.parent)
    python_path = os.pathsep.join(filter(None, [code_root, inherited.get("PYTHONPATH", "")]))
    marks = {ID_VARIABLE: instance.id, SERVICE_VARIABLE: "supervisor"}
    return {**inherited, **marks, "PYTHONPATH": python_path, "FOUNDRY_HOME": str(instance.home)}


def _spawn(instance: Instance, *, models: bool, model_uris: Sequence[str]) -> int:
    """Start a detached supervisor; its process id."""
    instance.layout.state_file.unlink(missing_ok=True)
    command = supervisor_command(instance.home, models=models, model_uris=model_uris)
    log, append = str(instance.layout.log("supervisor")), os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(  # not Popen, whose object must outlive the process
        command[0],
        command,
        supervisor_environment(instance),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _await_first_state(instance: Instance, supervisor_pid: int) -> None:
    deadline = time.monotonic() + _FIRST_STATE_S
    while states.read(instance.layout.state_file) is None:
        if _reaped(supervisor_pid) or time.monotonic() > deadline:
            words = "\n".join(tail(instance.layout.log("supervisor"), 10))
            raise ProcessError(f"the supervisor did not start:\n{words}\nnext: `foundry logs supervisor`")
        time.sleep(_POLL_S / 4)


def _reaped(pid: int) -> bool:
    """Whether a process that may be our child has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not psutil.pid_exists(pid)


def _deploy_into_running(instance: Instance, *, models: bool, model_uris: tuple[str, ...]) -> None:
    from foundry.local import registration
    from foundry.local.services import base_environment

    due = registration.wanted(instance.layout, models=models, model_uris=model_uris)
    state = states.read(instance.layout.state_file)
    if not due.register or (not model_uris and state is not None and state.service("register") is not None):
        return  # nothing new, or the supervisor is at it
    command = [sys.executable, "-m", "foundry.local.register", "--home", str(instance.home)]
    for uri in model_uris:
        command += ["--model", uri]
    done = subprocess.run(
        command, env=base_environment(instance), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ProcessError(f"the deployments could not be registered: {done.stderr.strip()[-500:]}")


def _stop_supervisor(instance: Instance) -> bool:
    if not is_running(instance.home):
        return False
    state = states.read(instance.layout.state_file)
    supervisors = (
        [psutil.Process(state.supervisor_pid)] if state and psutil.pid_exists(state.supervisor_pid) else []
    )
    supervisors = supervisors or sweep.find(instance, service="supervisor")
    for process in supervisors:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while is_running(instance.home) and time.monotonic() < deadline:
        time.sleep(_POLL_S / 2)
    for process in supervisors:
        _reaped(process.pid)
    return True


def _purge(instance: Instance) -> None:
    moved = (
        instance.home / "postgres"
    ).resolve()  # outside the home when that is closed to PostgreSQL's user
    if not moved.is_relative_to(instance.home.resolve()):
        shutil.rmtree(
            moved.parent if moved.parent.name.startswith("instance-") else moved, ignore_errors=True
        )
    shutil.rmtree(instance.home)
