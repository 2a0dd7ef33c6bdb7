"""Our gateway as `foundry up` runs it: Ray, Serve with HAProxy, the embedded ClickHouse, usage spooled and shipped.

The control API and PostgreSQL are left out: the gateway serves from a signed snapshot on disk, as it does when the control
API is down, and neither is on the request path. What it does not know: the load, the figures.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import psutil

from benchmarks.cpu import title, tree
from benchmarks.processes import Children, Failed, say
from benchmarks.systems import System
from control_api.reconcile.serve_config import serve_config
from foundry.gateway.keys import hash_key
from foundry.gateway.signing import private_key_from_pem, sign
from foundry.local import instance as instances
from foundry.local import ports, secrets
from foundry.local.assembly import remove_temp_dir
from foundry.local.instance import Instance
from foundry.local.services import Wanted, table
from foundry.metrics.queries import usage_totals
from foundry.metrics.store import Store
from foundry.settings import MetricsSettings, RaySettings, Settings
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.guardrails import GuardrailProfile
from foundry.types.limits import LimitEntry
from foundry.types.money import Price
from foundry.types.snapshot import EngineTarget, KeyEntry, ProviderTarget, RouteEntry, Snapshot

_START_S = 90.0
_SERVING = ("ray::ServeReplica", "ray::HAProxyManager", "ray::ServeController", "haproxy")
"""Processes that work for requests. Ray's own (raylet, GCS, dashboard) and the metrics store are reported apart."""
_REPLICA = "ray::ServeReplica:gateway"


_ON: dict[str, object] = {"routes": ("guarded",)}
_LIMITS = tuple(
    LimitEntry.model_validate({**limit, **_ON})
    for limit in (
        {"name": "rpm", "meter": "requests", "scope": "key", "window": "minute", "amount": 10_000_000},
        {"name": "tpm", "meter": "tokens", "scope": "project", "window": "minute", "amount": 10_000_000_000},
        {"name": "parallel", "meter": "concurrency", "scope": "route", "amount": 100_000},
        {"name": "budget", "meter": "usd", "scope": "project", "window": "month", "amount": 1_000_000},
    )
)
_REGEX = GuardrailProfile.model_validate(
    {
        "name": "regex",
        "guards": [
            {
                "kind": "regex",
                "stages": ["input", "output", "stream"],
                "options": {"patterns": {"card": r"\b\d{4}-\d{4}-\d{4}-\d{4}\b", "badge": r"\bEMP-\d{6}\b"}},
            }
        ],
    }
)


@dataclass(frozen=True)
class Rig:
    """The running platform."""

    system: System
    settings: Settings
    roots: tuple[int, ...]
    """Pids of Ray's head and of the metrics store: with `tree`, every process of the platform."""

    def others(self) -> list[psutil.Process]:
        """Ray's own processes and the metrics store: they work whether requests come or not."""
        return [process for process in tree(self.roots) if not title(process).startswith(_SERVING)]

    def usage(self) -> dict[str, object]:
        """Totals of the usage records that reached the metrics store."""
        return asyncio.run(_totals(self.settings))


@contextmanager
def foundry_gateway(
    children: Children, home: Path, upstream_port: int, more_env: Mapping[str, str]
) -> Generator[Rig]:
    """Start the metrics store and Ray as `foundry up` does, deploy the gateway, wait until it serves. more_env: tries a
    setting of Ray's or Serve's."""
    claims = ports.PortClaims()
    instance = _instance(home, claims)
    key = _write_snapshot(instance, f"http://127.0.0.1:{upstream_port}")
    services = {row.name: row for row in table(instance, Wanted(models=False))}
    known = instance.known_ports()
    settings = Settings(home=home, metrics=MetricsSettings(url=f"http://127.0.0.1:{known.metrics}"))
    try:
        store_pid = children.start("metrics", services["metrics"].command, services["metrics"].env)
        children.wait_http("metrics", f"http://127.0.0.1:{known.metrics}/ping", timeout_s=_START_S)
        asyncio.run(_migrate(settings))
        ray_env = {**services["ray"].env, "OPENAI_API_KEY": "benchmark", **more_env}
        ray_pid = children.start("ray", services["ray"].command, ray_env)
        _deploy(children, instance, settings)
        yield Rig(_system(known.serve, key, ray_pid), settings, (ray_pid, store_pid))
    finally:
        children.stop("ray")
        children.stop("metrics")
        claims.release()
        remove_temp_dir(instance)


def _instance(home: Path, claims: ports.PortClaims) -> Instance:
    """A fresh instance: ports, secrets, folders, all by the product's own code."""
    instance = instances.load_or_create(home)
    chosen, _ = ports.find(instance.id, None, claims)
    instance = msgspec.structs.replace(instance, ports=chosen)
    instance.save()
    secrets.ensure(instance.layout.secrets)
    (instance.temp_dir / "h").mkdir(mode=0o700, parents=True)
    return instance


def _system(port: int, key: str, ray_pid: int) -> System:
    return System(
        "foundry",
        port,
        key,
        {
            "json": "vendor",
            "json_all": "guarded",
            "stream": "vendor",
            "stream_all": "guarded",
            "stream_running": "engine",
            "stream_paced": "paced",
        },
        serving=lambda: [process for process in tree([ray_pid]) if title(process).startswith(_SERVING)],
        replica=lambda: _replica(ray_pid),
    )


def _replica(ray_pid: int) -> psutil.Process:
    for process in tree([ray_pid]):
        if title(process).startswith(_REPLICA):
            return process
    raise Failed("the gateway replica is gone")


def _write_snapshot(instance: Instance, upstream: str) -> str:
    """A signed snapshot with routes to the scripted upstream; returns a key that may call them."""
    now, folder = datetime.now(UTC), instance.layout.secrets
    key, pepper = instance.admin_key, bytes.fromhex((folder / "key_pepper").read_text().strip())
    entry = KeyEntry(
        key_id="key_benchmark",
        key_hash=hash_key(pepper, key),
        organization_id="org_benchmark",
        project_id="proj_benchmark",
        scopes=("inference",),
    )
    snapshot = Snapshot(
        cluster="local",
        version=1,
        issued_at=now,
        keys=(entry,),
        routes=_routes(upstream, now),
        limits=_LIMITS,
        guardrails=(_REGEX,),
    )
    signer = private_key_from_pem((folder / "snapshot_signing.pem").read_text())
    path = instance.home / "snapshots" / "local.json"
    path.parent.mkdir()
    path.write_text(sign(snapshot, signer).model_dump_json())
    return key


def _routes(upstream: str, now: datetime) -> tuple[RouteEntry, ...]:
    """On the route `guarded` everything is on: limits, a budget, a guardrail profile."""
    price = Price(
        price_id="benchmark",
        input_per_mtok_usd=Decimal("0.1"),
        output_per_mtok_usd=Decimal("0.4"),
        source="benchmark",
    )
    engine = {"deployment": "scripted", "base_url": upstream, "phase": DeploymentPhase.READY, "price": price}
    vendor = ProviderTarget(
        target_id="openai/scripted", provider="openai", model="scripted", base_url=upstream, price=price
    )
    targets = {
        "guarded": vendor,
        "vendor": vendor,
        "engine": EngineTarget.model_validate({"target_id": "engine/fast", "model": "scripted", **engine}),
        "paced": EngineTarget.model_validate(
            {"target_id": "engine/paced", "model": "scripted-paced", **engine}
        ),
    }
    return tuple(
        RouteEntry(
            name=name,
            task=Task.GENERATE,
            targets=(target,),
            created_at=now,
            guardrails=("regex",) if name == "guarded" else (),
        )
        for name, target in targets.items()
    )


def _deploy(children: Children, instance: Instance, settings: Settings) -> None:
    """What the control API's reconciler submits for an instance without deployments; waits until the gateway serves."""
    known = instance.known_ports()
    url = f"http://127.0.0.1:{known.dashboard}/api/serve/applications/"
    bearer = {"authorization": f"Bearer {settings.secret('ray.token')}"}
    children.wait_http("ray", url, timeout_s=_START_S, headers=bearer)
    body = serve_config(RaySettings(serve_port=known.serve), [])
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        method="PUT",
        headers={**bearer, "content-type": "application/json"},
    )
    say("deploying the gateway")
    try:
        with urllib.request.urlopen(request, timeout=_START_S):  # noqa: S310 - our own loopback URL
            pass
    except urllib.error.HTTPError as error:
        raise Failed(f"Serve refused the gateway: {error.read()[:2000]!r}") from error
    children.wait_http("ray", f"http://127.0.0.1:{known.serve}/healthz", timeout_s=_START_S)


async def _migrate(settings: Settings) -> None:
    store = await Store.connect(settings)
    try:
        await store.migrate()
    finally:
        await store.close()


async def _totals(settings: Settings) -> dict[str, object]:
    store = await Store.connect(settings)
    try:
        return await usage_totals(store)
    finally:
        await store.close()
