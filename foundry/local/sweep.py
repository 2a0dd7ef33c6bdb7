"""End exactly what an instance started: the processes that carry its marker, and nothing else.

Every child has `FOUNDRY_INSTANCE=<id>` in its environment, and what it starts inherits it (Ray workers, HAProxy, engines). Processes that
clear or overwrite their environment (PostgreSQL) are found as descendants of marked ones, or by their working folder. A process is
named by id and start time together, so a reused id is never hit. What it does not know: services, ports, or the supervisor.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from foundry.local.instance import ID_VARIABLE, SERVICE_VARIABLE, Instance


def find(instance: Instance, *, service: str | None = None) -> list[psutil.Process]:
    """The instance's live processes, oldest first; of one service only, when named. Never this process or its ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    data = (instance.home / "postgres").resolve() / "data"
    by_working_folder = data if service in {None, "postgres"} else None
    found: dict[int, psutil.Process] = {}
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            children.setdefault(process.ppid(), []).append(process)
            if process.status() != psutil.STATUS_ZOMBIE and _belongs(
                process, instance.id, service, by_working_folder
            ):
                found[process.pid] = process
        except psutil.Error:
            continue  # gone, or another user's
    _add_descendants(found, children)
    return sorted((p for pid, p in found.items() if pid not in spared), key=_age)


def end(processes: Iterable[psutil.Process], *, patience_s: float = 5.0) -> list[str]:
    """SIGTERM, and SIGKILL to those still there after `patience_s`. What was ended, one line each."""
    doomed = list(processes)
    told = [line for process in doomed if (line := _describe(process))]
    for process in doomed:
        _signal(process, kill=False)
    _gone, alive = psutil.wait_procs(doomed, timeout=patience_s)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=patience_s)
    return told


def _belongs(process: psutil.Process, instance_id: str, service: str | None, data: Path | None) -> bool:
    marks = _environment(process)
    if marks.get(ID_VARIABLE) == instance_id:
        return service is None or marks.get(SERVICE_VARIABLE) == service
    return data is not None and not marks.get(ID_VARIABLE) and _working_folder(process) == data


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _working_folder(process: psutil.Process) -> Path | None:
    try:
        return Path(process.cwd())
    except (psutil.Error, OSError):
        return None


def _add_descendants(found: dict[int, psutil.Process], children: dict[int, list[psutil.Process]]) -> None:
    todo = list(found)
    while todo:
        for child in children.get(todo.pop(), []):
            if child.pid not in found:
                found[child.pid] = child
                todo.append(child.pid)


def _age(process: psutil.Process) -> tuple[float, int]:
    try:
        return process.create_time(), process.pid
    except psutil.Error:
        return 0.0, process.pid


def _describe(process: psutil.Process) -> str:
    try:
        command = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return ""
    return f"{process.pid} {command[:100]}"


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.Error:
        return  # it was faster
