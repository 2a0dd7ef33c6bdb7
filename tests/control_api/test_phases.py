"""From Serve's words to phases, for deployments that scale."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from control_api.reconcile.phases import observed
from control_api.reconcile.serve_api import ServeApplication
from control_api.reconcile.serve_config import Desired
from foundry.types.deployment import DeploymentPhase, DeploymentSpec, DeploymentStatus

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def desired(**fields: Any) -> Desired:
    spec = DeploymentSpec.model_validate(
        {"name": "m", "model": "file:///m", "served_model_name": "m", **fields}
    )
    status = DeploymentStatus(phase=DeploymentPhase.QUEUED, updated_at=NOW)
    return Desired("dep_1", 1, 1, 1, 0, spec, status, deleting=False)


def part(name: str, running: int, target: int, starting: int = 0) -> dict[str, Any]:
    replicas = [{"state": "RUNNING", "pid": 1}] * running + [{"state": "STARTING", "pid": 1}] * starting
    return {"name": name, "status": "HEALTHY", "target_num_replicas": target, "replicas": replicas}


def app(*parts: dict[str, Any], status: str = "RUNNING") -> ServeApplication:
    return ServeApplication.model_validate(
        {"name": "m", "status": status, "deployments": {one["name"]: one for one in parts}}
    )


SCALES = {"autoscaling": {"min_replicas": 0, "max_replicas": 2}}


@pytest.mark.parametrize(
    ("fields", "application", "phase"),
    [
        (SCALES, app(part("engine", 0, 0)), DeploymentPhase.IDLE),
        (SCALES, app(part("engine", 0, 1, starting=1), status="DEPLOYING"), DeploymentPhase.LOADING),
        (SCALES, app(), DeploymentPhase.PLACING),  # Serve knows the application and not yet its parts
        (SCALES, app(part("engine", 1, 1)), DeploymentPhase.READY),
        ({"replicas": 2}, app(part("engine", 2, 2), part("router", 1, 1)), DeploymentPhase.READY),
        ({"replicas": 2}, app(part("engine", 1, 2), part("router", 1, 1)), DeploymentPhase.DEGRADED),
        ({}, app(part("engine", 1, 1), part("router", 0, 1)), DeploymentPhase.DEGRADED),
    ],
)  # fmt: skip
def test_phases(fields: dict[str, Any], application: ServeApplication, phase: DeploymentPhase) -> None:
    assert observed(desired(**fields), application, None, "", NOW).phase is phase
