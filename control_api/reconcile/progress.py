"""What engine replicas on this machine say about their own start: `<home>/run/engines/<deployment>/<replica>.json`.

Serve knows "starting"; a replica knows whether it pulls, loads or warms, and how long that takes.
What it does not know: Serve, the database.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foundry.types.deployment import DeploymentPhase

log = structlog.get_logger(__name__)


class Progress(BaseModel):
    """One replica's own words."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    phase: DeploymentPhase
    detail: str = ""
    percent: float | None = Field(default=None, ge=0, le=100)
    eta_s: float | None = Field(default=None, ge=0)
    updated_at: datetime


def newest_progress(home: Path, deployment: str, *, since_s: float) -> Progress | None:
    """The newest word of any replica written after `since_s` (Unix seconds); older ones tell of an earlier life."""
    found: list[Progress] = []
    for path in (home / "run" / "engines" / deployment).glob("*.json"):
        try:
            progress = Progress.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            continue  # the replica ended between the listing and the read
        except (OSError, ValidationError) as error:
            log.warning("engine_progress_unreadable", path=str(path), error=str(error))
            continue
        if progress.updated_at.timestamp() >= since_s:
            found.append(progress)
    return max(found, key=lambda progress: progress.updated_at, default=None)
