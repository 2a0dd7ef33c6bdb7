"""The phase of every engine replica, as one small file each: written by the replica, read by the control plane.

    <home>/run/engines/<deployment>/<replica>.json   atomically replaced at each change

A file is how a replica that is still starting (and so answers nothing) can tell how far it is, without Ray objects.
What it does not know: Ray, engines, HTTP. On clusters without a shared home, the same facts stand in the replica's log.
"""

from __future__ import annotations

import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from foundry.types.deployment import DeploymentPhase

log = structlog.get_logger(__name__)
_EXPECTED = "last_start"


class ReplicaPhase(BaseModel):
    """Where one replica stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deployment: str
    replica: str
    phase: DeploymentPhase
    detail: str = ""
    percent: float | None = None
    """Of the phase, when it can be known."""
    eta_s: float | None = None
    """Seconds until ready from `updated_at`, as the last start took them; None: this is the first start."""
    node: str
    """Host name of the machine that it runs on."""
    pid: int
    started_at: datetime
    updated_at: datetime


class PhaseReporter:
    """Writes one replica's file and one log line per phase."""

    def __init__(self, home: Path, deployment: str, replica: str) -> None:
        self._folder = home / "run" / "engines" / deployment
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / f"{replica}.json"
        self._deployment, self._replica = deployment, replica
        self._started, self._started_at = time.monotonic(), datetime.now(UTC)
        self._phase: DeploymentPhase | None = None
        self._expected_s = _read_expected(self._folder / _EXPECTED)
        for path in self._folder.glob("*.json"):  # what killed replicas of this machine left
            state = _parse(path)
            if state is not None and not _may_live(state):
                path.unlink(missing_ok=True)

    def report(self, phase: DeploymentPhase, detail: str = "", percent: float | None = None) -> None:
        """Say where the replica stands now."""
        elapsed_s = time.monotonic() - self._started
        eta_s = None if self._expected_s is None else max(0.0, round(self._expected_s - elapsed_s, 1))
        state = ReplicaPhase(
            deployment=self._deployment,
            replica=self._replica,
            phase=phase,
            detail=detail,
            percent=percent,
            eta_s=0.0 if phase is DeploymentPhase.READY else eta_s,
            node=platform.node(),
            pid=os.getpid(),
            started_at=self._started_at,
            updated_at=datetime.now(UTC),
        )
        _replace(self._path, state.model_dump_json())
        if phase is DeploymentPhase.READY:
            _replace(self._folder / _EXPECTED, json.dumps({"seconds": round(elapsed_s, 1)}))
        if phase != self._phase:
            self._phase = phase
            log.info("engine_phase", elapsed_s=round(elapsed_s, 1), **state.model_dump(mode="json"))

    def withdraw(self) -> None:
        """Remove the file: the replica ends as it was told to. Words about a failure stay, until another replica starts."""
        if self._phase is not DeploymentPhase.FAILED:
            self._path.unlink(missing_ok=True)


def _parse(path: Path) -> ReplicaPhase | None:
    try:
        return ReplicaPhase.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _may_live(state: ReplicaPhase) -> bool:
    return state.node != platform.node() or Path(f"/proc/{state.pid}").exists() or not Path("/proc").is_dir()


def _read_expected(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_bytes())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
