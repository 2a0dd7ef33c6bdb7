"""One child process: started in its own session with its output in a log file, ended politely, then firmly.

What it does not know: why it runs, or what happens after it ends (`supervisor.py`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from foundry.local.files import tail

_LAUNCHER: Final = str(Path(__file__).with_name("launch.py"))
LOG_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""A log that grew beyond this is moved to `<name>.log.1`."""


class Child:
    """A running child. Make one with `start`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, log_offset: int) -> None:
        self._process = process
        self.log = log
        self.log_offset = log_offset
        """Where this start's output begins in `log`."""

    @classmethod
    async def start(
        cls, command: Sequence[str], env: Mapping[str, str], log: Path, *, niceness: int = 0
    ) -> Child:
        """Start `command` with exactly `env`; it gets SIGTERM when this process dies. Call from the main thread."""
        rotate(log)
        with log.open("ab") as output:
            offset = output.tell()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()), str(niceness), *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(env),
                cwd="/",
                start_new_session=True,
            )
        return cls(process, log, offset)

    @property
    def pid(self) -> int:
        """Process id; also the id of its session and process group."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Until it ends; its status."""
        return await self._process.wait()

    def last_line(self) -> str:
        """The last line that this start said; empty when it said nothing yet."""
        try:
            if self.log.stat().st_size <= self.log_offset:
                return ""
        except OSError:
            return ""
        lines = tail(self.log, 1, window_bytes=4096)
        return lines[0] if lines else ""

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, then SIGKILL to its whole session's group after `timeout_s`."""
        if self.status is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), timeout_s)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                await self._process.wait()


def rotate(log: Path) -> None:
    """Move an oversized log aside by copying and truncating: its writer appends and need not know."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def ended(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
