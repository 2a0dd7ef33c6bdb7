"""Child processes of a benchmark: started in their own session, waited for, ended by pid.

Each child dies with the benchmark (a parent-death signal), and `Children.stop` ends whole sessions, so nothing is left
behind on Ctrl-C either. What it does not know: what runs in them. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

_PR_SET_PDEATHSIG = 1
_STOP_S = 20.0
_libc = ctypes.CDLL(None)


class Failed(Exception):
    """A part of the benchmark did not start or died; the message has its last words."""


def say(message: str) -> None:
    """A line of progress on stderr; stdout carries the result alone."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def free_ports(count: int) -> list[int]:
    """Free TCP ports below the ephemeral range, in a row (Serve wants a row for its replicas)."""
    start = 20_000 + (os.getpid() * 37) % 10_000
    for first in range(start, start + 2_000, count):
        if all(_is_free(port) for port in range(first, first + count)):
            return list(range(first, first + count))
    raise Failed(f"no {count} free ports in a row from {start} on")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Children:
    """Every process that one benchmark started. Use it as a context manager."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT too: a shell's background jobs ignore it
            signal.signal(number, _interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        *,
        cwd: Path | None = None,
    ) -> int:
        """Start a process in a session of its own; its output goes to `<logs>/<name>.log`. Returns the pid."""
        say(f"starting {name}")
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                [str(part) for part in command],
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  no threads run in the benchmark's own process
            )
        return self._running[name].pid

    def wait_http(
        self, name: str, url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """Wait until `url` answers 200. Raises Failed with the end of the log when it dies or stays silent."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._running[name].poll() is not None:
                raise Failed(f"{name} ended with status {self._running[name].returncode}:\n{self.tail(name)}")
            if answers(url, headers or {}):
                return
            time.sleep(0.2)
        raise Failed(f"{name} did not answer {url} within {timeout_s:g} s:\n{self.tail(name)}")

    def tail(self, name: str, characters: int = 3000) -> str:
        """The end of a process's log."""
        return self._log(name).read_text(encoding="utf-8", errors="replace")[-characters:]

    def stop(self, name: str) -> None:
        """End a process and everything that descends from it: asked first, killed after a while. Twice is fine."""
        process = self._running.pop(name, None)
        if process is None:
            return
        family = [process.pid, *_descendants(process.pid)]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        left = [psutil.Process(pid) for pid in family if pid != process.pid and psutil.pid_exists(pid)]
        for member in left:
            _signal(member, signal.SIGTERM)
        _, alive = psutil.wait_procs(left, timeout=5)
        for member in alive:
            _signal(member, signal.SIGKILL)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def answers(url: str, headers: Mapping[str, str]) -> bool:
    """Whether a GET of `url` is answered with 200 now."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=5) as reply:  # noqa: S310 - our own loopback URL
            return reply.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt
