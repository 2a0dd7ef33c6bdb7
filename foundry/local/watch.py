"""Watches what runs inside Ray: the gateway through its own endpoint, the deployments through the control API.

Once a second while something is on its way, every fifteen seconds at rest. What it does not know: processes, or how deployments are made.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, TypeVar

import msgspec

from foundry.errors import UpstreamUnreachable
from foundry.local.instance import Instance
from foundry.local.probes import get
from foundry.local.state import SETTLED, PlatformState, ServicePhase, ServiceState
from foundry.local.supervisor import REST_S, Supervisor

_BUSY_S: Final = 1.0
_OK: Final = 200
_PHASES: Final[dict[str, ServicePhase]] = {
    "ready": "ready",
    "degraded": "ready",
    "failed": "failed",
    "deleting": "stopping",
}

Answer = TypeVar("Answer", bound=msgspec.Struct)


class _Status(msgspec.Struct):
    phase: str
    detail: str = ""
    percent: float | None = None
    last_log_line: str = ""


class _Deployment(msgspec.Struct):
    name: str
    status: _Status


class _Deployments(msgspec.Struct):
    items: list[_Deployment]


class _GatewayHealth(msgspec.Struct):
    snapshot_version: int | None = None


class _Gateway(msgspec.Struct):
    status: str
    message: str = ""


class _Gateways(msgspec.Struct):
    items: list[_Gateway]


class _Cluster(msgspec.Struct):
    name: str
    snapshot_version: int | None = None


class _Clusters(msgspec.Struct):
    items: list[_Cluster]


class _Problem(msgspec.Struct):
    severity: str
    path: str
    line: int
    column: int
    message: str
    value: str = ""


class _Config(msgspec.Struct):
    path: str
    status: str
    problems: list[_Problem]


async def watch(supervisor: Supervisor) -> None:
    """Until cancelled: keep `supervisor.watched` true to what the platform says about itself."""
    supervisor.watch_settled = False
    gateway = ServiceState(
        name="gateway", kind="gateway", detail="waiting for Ray and the control API", since=time.time()
    )
    supervisor.watched = [gateway]
    for name in ("control-api", "ray"):
        if name in supervisor.supervised:
            await supervisor.supervised[name].settled.wait()
    gateway.started_at = time.time()
    _move(gateway, "starting", "OpenAI-compatible endpoint")
    registration = supervisor.supervised.get("register")
    while True:
        complete = (
            registration is None or registration.settled.is_set()
        )  # asked before looking: all are listed then
        deployments = await asyncio.to_thread(_look, supervisor, gateway)
        supervisor.watched = [gateway, *deployments]
        settled = complete and all(line.phase in SETTLED for line in supervisor.watched)
        supervisor.watch_settled = settled
        supervisor.tell()
        await asyncio.sleep(REST_S if settled and supervisor.state.phase == "ready" else _BUSY_S)


def _look(supervisor: Supervisor, gateway: ServiceState) -> list[ServiceState]:
    instance, state = supervisor.instance, supervisor.state
    known = {line.name: line for line in supervisor.watched if line.kind == "deployment"}
    clusters = _ask(instance, "/v1/clusters", _Clusters)
    published = clusters.items[0].snapshot_version if clusters and clusters.items else None
    state.snapshot_version = _look_at_gateway(instance, gateway, published)
    _look_at_config(instance, state)
    listed = _ask(instance, "/v1/deployments?limit=100", _Deployments)
    if listed is None:  # the control API is away: what we know stays, and inference goes on
        return list(known.values())
    return [_deployment_line(known.get(item.name), item) for item in reversed(listed.items)]


def _deployment_line(line: ServiceState | None, item: _Deployment) -> ServiceState:
    if line is None:
        line = ServiceState(name=item.name, kind="deployment", since=time.time(), started_at=time.time())
    status = item.status
    phase = _PHASES.get(status.phase, "starting")
    detail = (
        status.detail if status.phase == "ready" else f"{status.phase}: {status.detail}".removesuffix(": ")
    )
    _move(line, phase, detail)
    line.percent, line.last_log_line = status.percent, status.last_log_line
    return line


def _look_at_config(instance: Instance, state: PlatformState) -> None:
    """What became of `foundry.toml`; what we know stays while the control API is away."""
    config = _ask(instance, "/v1/gateway/config", _Config)
    if config is not None:
        state.config_status = config.status
        state.config_problems = [_problem_line(config.path, problem) for problem in config.problems]


def _problem_line(file: str, one: _Problem) -> str:
    value = f" = {one.value}" if one.value else ""
    subject = f"{one.path}{value}: " if one.path else ""
    return f"{file}:{one.line}:{one.column}: {one.severity}: {subject}{one.message}"


def _look_at_gateway(instance: Instance, line: ServiceState, published: int | None) -> int | None:
    """Move the gateway's line; the snapshot that it serves from. Ready: it serves from the one that is published."""
    applied: int | None = None
    try:
        status, body = get(instance.known_ports().serve, "/healthz")
    except UpstreamUnreachable:
        status, body = 0, b""
    if status == _OK:
        applied = msgspec.json.decode(body, type=_GatewayHealth).snapshot_version
        if published is None or (applied or 0) >= published:
            _move(line, "ready", "OpenAI-compatible endpoint")
            return applied
    told = _ask(instance, "/v1/gateways", _Gateways)
    application = told.items[0] if told and told.items else None
    answer = f"answers {status}" if status else "does not answer yet"
    answer = f"takes snapshot {published}" if status == _OK else answer
    failed = application is not None and application.status == "failed"
    starting = application is not None and application.status != "running"
    detail = (
        f"{application.status}: {application.message}".removesuffix(": ")
        if application and starting
        else answer
    )
    _move(line, "failed" if failed else "starting", detail)
    return applied


def _move(line: ServiceState, phase: ServicePhase, detail: str) -> None:
    if line.phase != phase:
        line.since = time.time()
        if phase == "ready" and line.started_at and line.ready_after_s is None:
            line.ready_after_s = round(time.time() - line.started_at, 1)
    line.phase, line.detail = phase, detail


def _ask(instance: Instance, path: str, kind: type[Answer]) -> Answer | None:
    try:
        status, body = get(instance.known_ports().control, path, instance.admin_key)
    except UpstreamUnreachable:
        return None
    return msgspec.json.decode(body, type=kind) if status == _OK else None
