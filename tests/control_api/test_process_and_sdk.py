"""`python -m control_api` as a process, driven by the SDK over a real socket; it ends quickly on SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from foundry.client import ControlClient
from foundry.errors import (
    AuthenticationFailed,
    Conflict,
    InvalidParameter,
    MetricsUnavailable,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from foundry.settings import Settings
from foundry.types.control import EngineTargetSpec, ProviderTargetSpec
from foundry.types.deployment import DeploymentPhase, DeploymentSpec
from foundry.types.money import Price
from tests.control_api.conftest import DEPLOYMENT

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).parents[2]


@pytest.fixture
def process(
    settings: Settings, make_port: Callable[[], int]
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = make_port()
    environment = os.environ | {
        "FOUNDRY_HOME": str(settings.home),
        "FOUNDRY_CONTROL__PORT": str(port),
        "FOUNDRY_CONTROL__DATABASE_URL": settings.control.database_url or "",
        "FOUNDRY_RAY__DASHBOARD_URL": settings.ray.dashboard_url,
        "FOUNDRY_METRICS__URL": settings.metrics.url,
    }
    started = subprocess.Popen([sys.executable, "-m", "control_api"], cwd=ROOT, env=environment)
    try:
        yield started, f"http://127.0.0.1:{port}"
    finally:
        started.kill()
        started.wait()


def wait_ready(process: subprocess.Popen[bytes], control: ControlClient) -> None:
    deadline = time.monotonic() + 60
    while not control.ready():
        assert process.poll() is None, "the process ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)  # bounded poll


def drive(control: ControlClient, url: str) -> None:
    """The SDK's whole surface, and the errors it raises."""
    key = control.keys.create("alice", allowed_routes=["smol/one"])
    assert {row.id for row in control.keys.list()} >= {key.id}
    with ControlClient(url, key.key) as alice, pytest.raises(PermissionDenied):
        alice.keys.list()
    spec = DeploymentSpec.model_validate(DEPLOYMENT)
    made = control.deployments.put(spec)
    assert (made.spec, made.status.phase) == (spec, DeploymentPhase.QUEUED)
    assert control.deployments.get("smollm2").id == made.id
    price = Price(
        price_id="p",
        input_per_mtok_usd=Decimal("0.15"),
        output_per_mtok_usd=Decimal("0.6"),
        source="operator",
    )
    targets = [
        EngineTargetSpec(deployment="smollm2"),
        ProviderTargetSpec(provider="openai", model="m", price=price),
    ]
    route = control.routes.put("smol/one", targets)
    assert list(route.targets) == targets
    assert control.routes.list() == [control.routes.get("smol/one")] == [route]
    with pytest.raises(Conflict, match="smol/one"):
        control.deployments.delete("smollm2")
    control.routes.delete("smol/one")
    with pytest.raises(NotFound) as missing:
        control.routes.get("smol/one")
    assert missing.value.status == 404
    assert control.deployments.delete("smollm2").status.phase is DeploymentPhase.DELETING
    assert [row.name for row in control.deployments.list()] == ["smollm2"]
    with pytest.raises(InvalidParameter, match="expires_at"):
        control.keys.create("late", expires_at=datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidParameter, match="targets"):
        control.routes.put("x", [])
    with pytest.raises(MetricsUnavailable):
        control.usage(since=datetime.now(UTC), route="x")
    assert "openai" in {row.name for row in control.providers()}
    assert [(row.cluster, row.status) for row in control.gateways()] == [("local", "absent")]
    assert (
        [row.name for row in control.organizations()]
        == [row.name for row in control.projects()]
        == ["default"]
    )
    control.keys.revoke(key.id)
    with ControlClient(url, key.key) as alice, pytest.raises(AuthenticationFailed, match="revoked"):
        alice.keys.list()


def test_the_sdk_drives_a_real_process_that_ends_in_a_second(
    process: tuple[subprocess.Popen[bytes], str], settings: Settings
) -> None:
    started, url = process
    with ControlClient(url, settings.secret("admin.key")) as control:
        wait_ready(started, control)
        drive(control, url)
    headers = {"Authorization": f"Bearer {settings.secret('cluster.token')}"}
    answers: list[int] = []

    def wait_for_newer() -> None:
        version = (
            httpx.get(f"{url}/v1/snapshots/local", headers=headers)
            .json()["payload"]
            .split('"version":')[1]
            .split(",")[0]
        )
        query = f"after={version}&wait_s=50"
        answers.append(
            httpx.get(f"{url}/v1/snapshots/local?{query}", headers=headers, timeout=60).status_code
        )

    waiter = threading.Thread(target=wait_for_newer)
    waiter.start()
    time.sleep(
        0.5
    )  # the poll is open when the signal comes; if it were not, the answer below would be missing
    asked = time.monotonic()
    started.send_signal(signal.SIGTERM)
    assert started.wait(20) == 0
    assert time.monotonic() - asked < 5
    waiter.join(20)
    assert answers == [304]


def test_nobody_there_is_unavailable(make_port: Callable[[], int]) -> None:
    with ControlClient(f"http://127.0.0.1:{make_port()}", "fk-x") as control:
        assert not control.ready()
        with pytest.raises(Unavailable, match="foundry up"):
            control.keys.list()


def test_a_missing_secret_ends_the_process_with_its_name(settings: Settings) -> None:
    environment = os.environ | {"FOUNDRY_HOME": str(settings.home / "nothing")}
    ended = subprocess.run(
        [sys.executable, "-m", "control_api"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "database_url" in ended.stderr
