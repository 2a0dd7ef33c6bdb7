"""Our gateway as `foundry up` runs it: Ray, Serve with HAProxy, the embedded ClickHouse, usage spooled and shipped.

The control API and PostgreSQL are left out: the gateway serves from a signed snapshot on disk, as it does when the control
API is down, and neither is on the request path. What it does not know: the load, the figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.cpu import title, tree
from benchmarks.processes import Children, Failed, free_ports, say
from benchmarks.systems import System
from foundry.gateway.keys import hash_key, new_key
from foundry.gateway.signing import sign
from foundry.metrics.queries import usage_totals
from foundry.metrics.store import Store
from foundry.settings import MetricsSettings, Settings
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.money import TokenPrice
from foundry.types.snapshot import EngineTarget, KeyEntry, ProviderTarget, RouteEntry, Snapshot

_PORTS = 160
_START_S = 90.0
_SERVING = ("ray::ServeReplica", "ray::HAProxyManager", "ray::ServeController", "haproxy")
"""Processes that work for requests. Ray's own (raylet, GCS, dashboard) and the metrics store are reported apart."""
_REPLICA = "ray::ServeReplica:gateway"


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


def start_foundry(children: Children, home: Path, upstream_port: int, more_env: Mapping[str, str]) -> Rig:
    """Write a FOUNDRY_HOME, start the metrics store and Ray, deploy the gateway, wait until it serves."""
    ports = free_ports(_PORTS)
    serve, dashboard, metrics = ports[0], ports[1], ports[2]
    key = _write_home(home, f"http://127.0.0.1:{upstream_port}")
    settings = Settings(home=home, metrics=MetricsSettings(url=f"http://127.0.0.1:{metrics}"))
    environment = {**os.environ, **_environment(home, ports), **more_env}
    embedded = [
        sys.executable,
        "-m",
        "foundry.metrics.embedded",
        "--path",
        home / "metrics",
        "--port",
        str(metrics),
    ]
    store_pid = children.start("metrics", embedded, environment)
    children.wait_http("metrics", f"http://127.0.0.1:{metrics}/ping", timeout_s=60)
    asyncio.run(_migrate(settings))
    ray_pid = children.start("ray", _ray_command(home, ports), environment)
    applications = f"http://127.0.0.1:{dashboard}/api/serve/applications/"
    bearer = {"authorization": f"Bearer {settings.secret('ray.token')}"}
    children.wait_http("ray", applications, timeout_s=_START_S, headers=bearer)
    _deploy(applications, bearer, serve)
    children.wait_http("ray", f"http://127.0.0.1:{serve}/healthz", timeout_s=_START_S)
    models = {
        "json": "bench-vendor",
        "stream": "bench-vendor",
        "stream_running": "bench-engine",
        "stream_paced": "bench-paced",
    }
    system = System(
        "foundry",
        serve,
        key,
        models,
        serving=lambda: [process for process in tree([ray_pid]) if title(process).startswith(_SERVING)],
        replica=lambda: _replica(ray_pid),
    )
    return Rig(system, settings, (ray_pid, store_pid))


def _replica(ray_pid: int) -> psutil.Process:
    for process in tree([ray_pid]):
        if title(process).startswith(_REPLICA):
            return process
    raise Failed("the gateway replica is gone")


def _write_home(home: Path, upstream: str) -> str:
    """Secrets and a signed snapshot; returns a key that may call both routes."""
    folder = home / "secrets"
    folder.mkdir(parents=True)
    pepper, signer, key = secrets.token_bytes(32), Ed25519PrivateKey.generate(), new_key()
    public = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "snapshot_public.pem").write_bytes(public)
    (folder / "key_pepper").write_text(pepper.hex())
    for name in ("engine.token", "cluster.token", "clickhouse.password", "ray.token"):
        (folder / name).write_text(secrets.token_urlsafe(24))
    price = TokenPrice(
        price_id="benchmark",
        input_per_mtok_usd=Decimal("0.1"),
        output_per_mtok_usd=Decimal("0.4"),
        source="benchmark",
    )
    engine = {"deployment": "scripted", "base_url": upstream, "phase": DeploymentPhase.READY, "price": price}
    targets = {
        "bench-vendor": ProviderTarget(
            target_id="openai/scripted", provider="openai", model="scripted", base_url=upstream, price=price
        ),
        "bench-engine": EngineTarget.model_validate(
            {"target_id": "engine/fast", "model": "scripted", **engine}
        ),
        "bench-paced": EngineTarget.model_validate(
            {"target_id": "engine/paced", "model": "scripted-paced", **engine}
        ),
    }
    now = datetime.now(UTC)
    routes = tuple(
        RouteEntry(name=name, task=Task.GENERATE, targets=(target,), created_at=now)
        for name, target in targets.items()
    )
    entry = KeyEntry(
        key_id="key_benchmark",
        key_hash=hash_key(pepper, key),
        organization_id="org_benchmark",
        project_id="proj_benchmark",
        scopes=("inference",),
    )
    snapshot = Snapshot(cluster="local", version=1, issued_at=now, keys=(entry,), routes=routes)
    (home / "snapshots").mkdir()
    (home / "snapshots" / "local.json").write_text(sign(snapshot, signer).model_dump_json())
    return key


def _environment(home: Path, ports: list[int]) -> dict[str, str]:
    folder = home.parent / "h"  # short: Serve appends 70 characters, and HAProxy's socket paths hold 97
    folder.mkdir()
    return {
        "FOUNDRY_HOME": str(home),
        "FOUNDRY_METRICS__URL": f"http://127.0.0.1:{ports[2]}",
        "FOUNDRY_CONTROL__URL": "http://127.0.0.1:9",  # closed: the control API is down
        "OPENAI_API_KEY": "benchmark",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the node's address stays 127.0.0.1
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "secrets" / "ray.token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_worker_prestart": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[10]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[11]),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports[20]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports[39]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports[40]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports[59]),
    }


def _ray_command(home: Path, ports: list[int]) -> list[str | Path]:
    named = {
        "port": ports[3],
        "dashboard-port": ports[1],
        "dashboard-agent-listen-port": ports[4],
        "dashboard-agent-grpc-port": ports[5],
        "runtime-env-agent-port": ports[6],
        "node-manager-port": ports[7],
        "object-manager-port": ports[8],
        "metrics-export-port": ports[9],
        "min-worker-port": ports[60],
        "max-worker-port": ports[159],
        "num-cpus": 8,
        "object-store-memory": 160 * 1024 * 1024,
        "temp-dir": home / "ray",
        "node-ip-address": "127.0.0.1",
    }
    flags = [f"--{name}={value}" for name, value in named.items()]
    return [
        Path(sys.executable).with_name("ray"),
        "start",
        "--head",
        "--block",
        "--include-dashboard=true",
        *flags,
    ]


def _deploy(url: str, bearer: Mapping[str, str], serve_port: int) -> None:
    body = {
        "http_options": {"host": "127.0.0.1", "port": serve_port},
        "applications": [
            {"name": "gateway", "route_prefix": "/", "import_path": "serve_apps.gateway:build", "args": {}}
        ],
    }
    request = urllib.request.Request(  # noqa: S310  our own loopback URL
        url,
        data=json.dumps(body).encode(),
        method="PUT",
        headers={**bearer, "content-type": "application/json"},
    )
    say("deploying the gateway")
    for attempt in range(30):
        try:
            with urllib.request.urlopen(request, timeout=60):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            if attempt == 29:
                raise Failed(f"Serve refused the gateway: {error.read()[:2000]!r}") from error
            time.sleep(1)


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
