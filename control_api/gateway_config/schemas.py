"""The state of the configuration file as the API shows it, and problems as they are stored."""

from __future__ import annotations

from pathlib import Path

from control_api.models import GatewayFileState
from foundry.located import Problem
from foundry.types.control import ConfigProblem, GatewayConfigRead


def config_read(row: GatewayFileState | None, path: Path) -> GatewayConfigRead:
    """The view of the row; `path` is where the file would lie while there is none."""
    if row is None:
        return GatewayConfigRead(path=str(path), status="absent")
    return GatewayConfigRead.model_validate(
        {
            "path": row.path,
            "status": row.status,
            "applied_at": row.applied_at,
            "content_hash": row.content_hash,
            "checked_at": row.checked_at,
            "problems": row.problems,
        }
    )


def config_problem(problem: Problem) -> ConfigProblem:
    """A problem as it travels."""
    return ConfigProblem(
        severity=problem.severity,
        path=problem.dotted,
        line=problem.place.line,
        column=problem.place.column,
        value=problem.value,
        message=problem.message,
    )
