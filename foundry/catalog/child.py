"""Children of a pull: pip and the converter run in processes of their own, which never outlive it.

What it does not know: what the children do.
"""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from foundry.errors import ModelSourceError
from foundry.settings import environment

_LAST_WORDS = 15
_PACKAGE_ROOT = Path(__file__).parents[2]


def run(command: Sequence[str], on_line: Callable[[str], None], *, failure: str) -> None:
    """Run a command to its end and hand over every line of its output; a carriage return ends a line too.

    Raises ModelSourceError with `failure` and the child's last lines when it does not exit with 0.
    """
    tethered = [sys.executable, str(Path(__file__).with_name("tethered.py")), *command]
    inherited = environment()
    search_path = os.pathsep.join(part for part in (str(_PACKAGE_ROOT), inherited.get("PYTHONPATH")) if part)
    last: collections.deque[str] = collections.deque(maxlen=_LAST_WORDS)
    with subprocess.Popen(
        tethered,
        env={**inherited, "PYTHONUNBUFFERED": "1", "PYTHONPATH": search_path},
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
