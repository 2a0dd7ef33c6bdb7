"""What the supervisor tells: the platform's phase and that of each service, in one file that is replaced atomically.

The supervisor writes it, everyone else reads it; no other channel exists between them (signals apart).
What it does not know: how a phase comes about (`supervisor.py`), how it is shown (`cli/render.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from foundry.local.files import write_atomically

ServicePhase = Literal["waiting", "starting", "ready", "done", "backoff", "stopping", "stopped", "failed"]
"""waiting: for its dependencies. done: a task that has finished. backoff: it died and is started again at `retry_at`.
failed: given up on until something changes (a task) or never answered yet after several tries (a process)."""
PlatformPhase = Literal["starting", "ready", "degraded", "failed", "stopping", "stopped"]
Kind = Literal["process", "task", "gateway", "deployment"]

SETTLED: frozenset[ServicePhase] = frozenset({"ready", "done"})


class ServiceState(msgspec.Struct, kw_only=True):
    """One line of `foundry status`. Times are seconds since the epoch."""

    name: str
    kind: Kind
    phase: ServicePhase = "waiting"
    detail: str = ""
    """What is happening, or what went wrong, for a person."""
    percent: float | None = None
    since: float = 0.0
    """When the phase began."""
    started_at: float | None = None
    """When its current process (or its first wait) began."""
    ready_after_s: float | None = None
    """Seconds from `started_at` until it was ready."""
    pid: int | None = None
    restarts: int = 0
    """Unexpected ends since the supervisor started."""
    retry_at: float | None = None
    last_log_line: str = ""


class PlatformState(msgspec.Struct, kw_only=True):
    """The whole of `run/state.json`."""

    instance_id: str
    supervisor_pid: int
    phase: PlatformPhase = "starting"
    started_at: float
    ready_after_s: float | None = None
    """Seconds from `started_at` until everything was ready the first time."""
    updated_at: float = 0.0
    ports: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    notes: list[str] = msgspec.field(default_factory=list[str])
    """Things worth telling once: ports that had to change, leftovers that were ended."""
    snapshot_version: int | None = None
    config_status: str = ""
    """Of `foundry.toml`: absent, applied or rejected; empty while the control API has not said."""
    config_problems: list[str] = msgspec.field(default_factory=list[str])
    """Its errors and warnings, one line each with file, line and column."""
    services: list[ServiceState] = msgspec.field(default_factory=list[ServiceState])

    def service(self, name: str) -> ServiceState | None:
        """The service of that name, if there is one."""
        return next((service for service in self.services if service.name == name), None)


def read(path: Path) -> PlatformState | None:
    """The state as last written; None when there is none (or a version of ours that knew other fields wrote it)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=PlatformState)
    except (OSError, msgspec.MsgspecError):
        return None


def write(path: Path, state: PlatformState) -> None:
    """Replace the state file."""
    write_atomically(path, msgspec.json.encode(state))
