"""The reconciler against a loopback double of Serve's REST API: what is submitted, when, and what is written down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_api.reconcile import loop
from control_api.reconcile.loop import Reconciler
from foundry.settings import Settings
from foundry.types.snapshot import EngineTarget
from tests.control_api.conftest import DEPLOYMENT, ENGINE_ROUTE, Api, running
from tests.control_api.test_snapshots import poll, settled
from tests.support.serve_double import ServeDouble, serve_double

pytestmark = pytest.mark.postgres


def port_of(settings: Settings) -> int:
    return int(settings.ray.dashboard_url.rsplit(":", 1)[1])


@pytest.fixture
async def serve(settings: Settings) -> AsyncGenerator[ServeDouble]:
    async with serve_double(settings.secret("ray.token"), port_of(settings)) as double:
        yield double


@pytest.fixture
async def reconciler(api: Api) -> AsyncGenerator[Reconciler]:
    made = Reconciler(api.runtime, "local")
    yield made
    await made.close()


async def status(api: Api, name: str = "smollm2") -> dict[str, Any]:
    status: dict[str, Any] = (await api.client.get(f"/v1/deployments/{name}")).json()["status"]
    return status


async def test_one_configuration_holds_gateway_and_deployments(
    api: Api, serve: ServeDouble, reconciler: Reconciler, settings: Settings
) -> None:
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    await reconciler.step()
    (config,) = serve.puts
    assert config["http_options"] == {"host": settings.ray.serve_host, "port": settings.ray.serve_port}
    gateway, engine = config["applications"]
    assert gateway == {"name": "gateway", "import_path": "serve_apps.gateway:build", "route_prefix": "/"}
    assert (engine["name"], engine["import_path"]) == ("smollm2", "serve_apps.engine:build")
    assert engine["route_prefix"] == "/engines/smollm2"
    assert engine["args"]["spec"]["model"] == DEPLOYMENT["model"]
    await reconciler.step()
    assert len(serve.puts) == 1  # nothing changed, nothing is submitted
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT | {"replicas": 2})
    await reconciler.step()
    assert serve.puts[1]["applications"][1]["args"]["spec"]["replicas"] == 2
    observed = (await api.client.get("/v1/deployments/smollm2")).json()
    assert observed["generation"] == observed["observed_generation"] == 2


async def test_phases_follow_serve_into_status_and_snapshot(
    api: Api, serve: ServeDouble, reconciler: Reconciler, settings: Settings
) -> None:
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    await api.client.put("/v1/routes/smol", json=ENGINE_ROUTE)
    seen: list[str] = []

    async def observe() -> dict[str, Any]:
        before = await settled(api)
        await reconciler.step()
        snapshot = await poll(api, before.version, 5)
        assert snapshot is not None  # every change of status is published
        target = snapshot.routes[0].targets[0]
        assert isinstance(target, EngineTarget)
        now = await status(api)
        assert (target.phase, target.phase_detail) == (now["phase"], now["detail"])
        seen.append(now["phase"])
        return now

    await observe()
    serve.log_line = "INFO loading weights 3/8"
    serve.set_state("smollm2", "DEPLOYING", replicas=1)
    assert (await observe())["last_log_line"] == "INFO loading weights 3/8"
    folder = settings.home / "run" / "engines" / "smollm2"
    folder.mkdir(parents=True)
    words = {"phase": "pulling", "detail": "wheel 40%", "percent": 40.0, "eta_s": 12.0}
    old = words | {
        "detail": "of an earlier life",
        "updated_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat(),
    }
    (folder / "old.json").write_text(json.dumps(old), encoding="utf-8")
    (folder / "broken.json").write_text("{", encoding="utf-8")
    (folder / "r0.json").write_text(
        json.dumps(words | {"updated_at": datetime.now(UTC).isoformat()}), encoding="utf-8"
    )
    pulling = await observe()
    assert (pulling["detail"], pulling["percent"], pulling["eta_s"]) == ("wheel 40%", 40.0, 12.0)
    serve.set_state("smollm2", "RUNNING", replicas=1)
    assert (await observe())["ready_replicas"] == 1
    serve.set_state("smollm2", "UNHEALTHY", message="replica died", replicas=0)
    await observe()
    serve.set_state(
        "smollm2", "DEPLOY_FAILED", message="Traceback (most recent call last):\n  x\nValueError: no model"
    )
    failed = await observe()
    assert failed["detail"].startswith("ValueError: no model")
    assert seen == ["placing", "loading", "pulling", "ready", "pulling", "failed"]


async def test_too_few_replicas_are_degraded_and_a_failed_one_is_built_anew_when_submitted_again(
    api: Api, serve: ServeDouble, reconciler: Reconciler
) -> None:
    spec = DEPLOYMENT | {"replicas": 2}
    await api.client.put("/v1/deployments/smollm2", json=spec)
    await reconciler.step()
    serve.set_state("smollm2", "RUNNING", replicas=1, wanted=2)
    await reconciler.step()
    assert ((await status(api))["phase"], (await status(api))["ready_replicas"]) == ("degraded", 1)
    serve.set_state("smollm2", "DEPLOY_FAILED", message="out of memory")
    await reconciler.step()
    assert (await status(api))["phase"] == "failed"
    await api.client.put("/v1/deployments/smollm2", json=spec)  # the same again: a retry
    assert (await status(api))["phase"] == "queued"
    await reconciler.step()
    first, second = (put["applications"][1] for put in serve.puts)
    assert first["args"] == second["args"]
    assert second["runtime_env"] == {"env_vars": {"FOUNDRY_DEPLOYMENT_ATTEMPT": "1"}}


async def test_ray_down_then_up_then_restarted_empty(
    api: Api, reconciler: Reconciler, settings: Settings
) -> None:
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    pauses = [await reconciler.step() for _ in range(6)]
    assert pauses == [0.5, 1.0, 2.0, 5.0, 10.0, 10.0]
    waiting = await status(api)
    assert (waiting["phase"], "waiting for Ray" in waiting["detail"]) == ("queued", True)
    (cluster,) = (await api.client.get("/v1/clusters")).json()["items"]
    assert (cluster["reachable"], settings.ray.dashboard_url in cluster["message"]) == (False, True)
    async with serve_double(settings.secret("ray.token"), port_of(settings)) as serve:
        await reconciler.step()
        serve.set_state("smollm2", "RUNNING", replicas=1)
        serve.set_state("gateway", "RUNNING", replicas=1)
        assert await reconciler.step() == 5.0
        (gateway,) = (await api.client.get("/v1/gateways")).json()["items"]
        assert (gateway["name"], gateway["status"], gateway["ready_replicas"]) == ("gateway", "running", 1)
        serve.applications = {}  # the head was restarted
        await reconciler.step()
        assert len(serve.puts) == 2
        assert (await status(api))["phase"] == "placing"
        serve.set_state("smollm2", "RUNNING", replicas=1)
        await reconciler.step()
    await reconciler.step()
    away = await status(api)  # its dashboard is gone; the engine may well answer
    assert (away["phase"], away["detail"].startswith("last known state")) == ("ready", True)


async def test_deletion_waits_for_the_cluster(api: Api, serve: ServeDouble, reconciler: Reconciler) -> None:
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    await reconciler.step()
    await api.client.delete("/v1/deployments/smollm2")
    serve.refuse = (503, "not now")
    await reconciler.step()
    assert (await status(api))["phase"] == "deleting"
    serve.refuse = None
    await reconciler.step()
    assert [row["name"] for row in serve.puts[-1]["applications"]] == ["gateway"]
    assert (await api.client.get("/v1/deployments/smollm2")).status_code == 404


async def test_two_reconcilers_submit_once_and_the_second_takes_over(
    api: Api, serve: ServeDouble, reconciler: Reconciler
) -> None:
    second = Reconciler(api.runtime, "local")
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    await asyncio.gather(reconciler.step(), second.step(), reconciler.step(), second.step())
    assert len(serve.puts) == 1
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT | {"replicas": 2})
    await reconciler.close()  # the leader dies
    await second.step()
    await second.close()
    assert len(serve.puts) == 2


async def test_a_wrong_token_and_a_refused_configuration_are_told(
    api: Api, serve: ServeDouble, reconciler: Reconciler
) -> None:
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    serve.refuse = (400, "ValueError: route prefixes must be unique")
    await reconciler.step()
    (cluster,) = (await api.client.get("/v1/clusters")).json()["items"]
    assert (cluster["reachable"], "must be unique" in cluster["message"]) == (True, True)
    assert "must be unique" in (await status(api))["detail"]
    serve.token = "another"
    await reconciler.step()
    (cluster,) = (await api.client.get("/v1/clusters")).json()["items"]
    assert "ray.token" in cluster["message"]


async def test_what_is_wanted_is_acted_on_without_waiting_for_the_next_round(
    settings: Settings, serve: ServeDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SETTLED_S", 3600.0)
    async with running(settings, reconcile=True) as api:
        while not serve.puts:
            await asyncio.sleep(0.02)  # bounded poll: the test has a time limit
        serve.set_state("gateway", "RUNNING", replicas=1)
        await asyncio.sleep(1.5)  # a played delay: the loop has settled and rests for an hour
        await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
        while len(serve.puts) < 2:
            await asyncio.sleep(0.01)  # bounded poll: the test has a time limit


async def test_a_change_made_while_the_reconciler_acts_is_not_overwritten(
    api: Api, serve: ServeDouble, reconciler: Reconciler
) -> None:
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    serve.during_put = lambda: api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT | {"replicas": 3})
    await reconciler.step()
    serve.during_put = None
    row = (await api.client.get("/v1/deployments/smollm2")).json()
    assert (row["generation"], row["observed_generation"]) == (2, 0)
    await reconciler.step()
    row = (await api.client.get("/v1/deployments/smollm2")).json()
    assert (row["observed_generation"], serve.puts[-1]["applications"][1]["args"]["spec"]["replicas"]) == (
        2,
        3,
    )
