"""CPU time and memory of groups of processes, read from the kernel's own accounting.

A group is a set of root processes and all their descendants. The clock is each process's CPU-time clock (user and system,
nanoseconds, its ended threads included). A process that begins inside the window counts from zero; one that ends inside
it is lost, so systems are measured when they are settled, and `Window.names` says which processes were counted.
What it does not know: what the processes do. Linux only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import psutil

_CPUCLOCK_SCHED = 2


def cpu_ns(pid: int) -> int:
    """CPU time of one process so far. Raises ProcessLookupError when it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)  # Linux's clock id of another process
    except OSError as error:
        raise ProcessLookupError(pid) from error


def tree(roots: Iterable[int]) -> list[psutil.Process]:
    """The living processes among the roots and all their descendants."""
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        try:
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                found[process.pid] = process
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def title(process: psutil.Process) -> str:
    """How a process calls itself: Ray's actors set it, e.g. "ray::ServeReplica:gateway:gateway"; else its name."""
    try:
        line = process.cmdline()
        return line[0] if line and line[0].startswith("ray::") else process.name()
    except psutil.NoSuchProcess:
        return ""


def rss_mb(process: psutil.Process) -> float:
    """Resident memory in MB (10^6 bytes)."""
    return process.memory_info().rss / 1e6


@dataclass
class Window:
    """CPU time between `start` and `stop` of the processes that `members` names at either moment."""

    members: Callable[[], list[psutil.Process]]
    names: dict[str, float] = field(default_factory=dict[str, float])
    """After `stop`: process title to CPU microseconds in the window, zero ones left out."""
    _before: dict[int, int] = field(default_factory=dict[int, int])

    def start(self) -> None:
        """Begin."""
        self._before = {
            process.pid: used for process in self.members() if (used := _used(process.pid)) is not None
        }

    def stop(self) -> float:
        """End. Returns CPU microseconds."""
        self.names = {}
        for process in self.members():
            used = _used(process.pid)
            if used is not None and (spent := (used - self._before.get(process.pid, 0)) / 1e3) > 0:
                name = title(process)
                self.names[name] = self.names.get(name, 0.0) + spent
        return sum(self.names.values())


def _used(pid: int) -> int | None:
    try:
        return cpu_ns(pid)
    except ProcessLookupError:
        return None
