"""Children of a pull: pip, uv and the converter run in processes of their own that never outlive it.

    python -m foundry.catalog.child MODULE ARG...   runs MODULE as __main__, and dies with the process that started it

What it does not know: what the children do.
"""

from __future__ import annotations

import collections
import ctypes
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from foundry.errors import ModelSourceError
from foundry.settings import environment

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LAST_WORDS = 15


def run(module: str, arguments: Sequence[str], on_line: Callable[[str], None], *, failure: str) -> None:
    """Run `python -m module arguments` and hand over every line of its output (carriage returns count as line ends).

    Raises ModelSourceError with `failure` and the child's last lines when it does not exit with 0.
    """
    command = [sys.executable, "-m", "foundry.catalog.child", module, *arguments]
    last: collections.deque[str] = collections.deque(maxlen=_LAST_WORDS)
    child_environment = {**environment(), "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command,
        env=child_environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        if process.stdout is not None:
            for line in _lines(process.stdout):
                last.append(line)
                on_line(line)
    if process.returncode != 0:
        raise ModelSourceError(f"{failure}; it exited with {process.returncode} and said: {' | '.join(last)}")


def _lines(stream: IO[bytes]) -> Iterator[str]:
    pending = b""
    while chunk := os.read(stream.fileno(), 65536):
        *complete, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
        yield from (line.decode(errors="replace").strip() for line in complete if line.strip())
    if pending.strip():
        yield pending.decode(errors="replace").strip()


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies; a no-op where there is no prctl (not Linux)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)


if __name__ == "__main__":
    die_with_parent()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
