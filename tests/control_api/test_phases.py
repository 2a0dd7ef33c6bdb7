"""From Serve's words to phases, for deployments that scale."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from control_api.reconcile.phases import observed
from control_api.reconcile.progress import Progress
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


# As Serve puts it (ray 2.60), shortened: Ray's colours, a traceback of Serve's around the replica's own.
_SERVES_WORDS = """The deployment failed to start 3 times in a row. This may be due to a problem with its constructor. Error:
\x1b[36mray::ServeReplica:bad:engine.initialize_and_get_metadata()\x1b[39m (pid=10252, ip=127.0.0.1)
  File "replica.py", line 1928, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "vllm_engine.py", line 222, in _get_vllm_engine_config
    raise RuntimeError(f"Failed to create vLLM engine config: {e}") from None
RuntimeError: Failed to create vLLM engine config: 1 validation error for ModelConfig
  Value error, '/nowhere' is no folder [type=value_error]
"""


def _failed(words: str) -> ServeApplication:
    engine = part("engine", 0, 1) | {"status": "DEPLOY_FAILED", "message": words}
    parts = (part("router", 1, 1), engine)
    made = app(*parts, status="DEPLOY_FAILED")
    return made.model_copy(update={"message": "Failed to update the deployments ['engine']."})


def _progress(phase: DeploymentPhase, detail: str) -> Progress:
    return Progress(phase=phase, detail=detail, updated_at=NOW)


def test_a_failure_tells_the_engines_words_and_the_next_step() -> None:
    status = observed(desired(), _failed(_SERVES_WORDS), None, "", NOW)
    assert status.phase is DeploymentPhase.FAILED
    assert status.detail == (
        "RuntimeError: Failed to create vLLM engine config: 1 validation error for ModelConfig "
        "Value error, '/nowhere' is no folder [type=value_error]; "
        "change the deployment, or submit it again to retry"
    )
    told = _progress(DeploymentPhase.FAILED, "the adapter 'poet' has rank 9000")
    assert observed(desired(), _failed(_SERVES_WORDS), told, "", NOW).detail.startswith(told.detail)
    stale = _progress(DeploymentPhase.LOADING, "vllm on cpu")
    assert "validation error" in observed(desired(), _failed(_SERVES_WORDS), stale, "", NOW).detail


def test_without_words_about_a_replica_serves_own_stand() -> None:
    broken = ServeApplication(
        name="m", status="DEPLOY_FAILED", message="deploying app 'm' raised: no such module"
    )
    assert "no such module" in observed(desired(), broken, None, "", NOW).detail
    assert (
        "Serve gave no reason"
        in observed(desired(), ServeApplication(name="m", status="DEPLOY_FAILED"), None, "", NOW).detail
    )


def test_a_start_that_is_tried_again_tells_why() -> None:
    starting = app(part("engine", 0, 1, starting=1), status="DEPLOYING")
    told = _progress(DeploymentPhase.FAILED, "OSError: no space left on device")
    status = observed(desired(), starting, told, "", NOW)
    assert status.phase is DeploymentPhase.LOADING
    assert status.detail == "Serve starts it again after: OSError: no space left on device"
