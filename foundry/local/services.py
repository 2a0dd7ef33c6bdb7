"""The table of what an instance runs, as data: name, command, environment, dependencies, readiness.

Adding a service is adding a row to `table`. What it does not know: how rows are started, watched and restarted (`supervisor.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

import foundry
from foundry.local import haproxy
from foundry.local.instance import ID_VARIABLE, LOOPBACK, SERVICE_VARIABLE, Instance
from foundry.local.probes import HttpProbe, LogProbe, Probe
from foundry.settings import environment

_NOT_INHERITED = frozenset({"RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_TMPDIR"})
"""Variables that would tie our Ray to another one on this machine."""

Environment = Callable[..., dict[str, str]]
"""(service name, more variables) to a child's whole environment."""
HAPROXY_RETRIES = {
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
}
"""A request whose replica dies before it began to answer is sent to another one (`haproxy.py` says which are not). HAProxy can do
that for as much of a request as its buffer holds. It has buffers only while bytes move, so open streams hold none."""
_PULL_NICENESS = 5
"""Converting weights keeps both cores busy; Ray's start gives up when its agents need longer than it waits."""
_RAY_SITE = Path(__file__).with_name("ray_site")
"""Makes Ray's processes import `ray_site/sitecustomize.py`."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One child of the supervisor."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    """Its whole environment."""
    kind: Literal["process", "task"] = "process"
    """A process runs until it is stopped; a task runs to a good end once."""
    needs: tuple[str, ...] = ()
    """Services that must be ready (or done) first."""
    probe: Probe | None = None
    """None: ready as soon as it runs (tasks: done when it ends well)."""
    detail: str = ""
    """What it is, for a person."""
    stop_after: tuple[str, ...] = ()
    """Services that must have ended before this one is asked to."""
    niceness: int = 0
    """Added to the scheduling priority: above 0 for work that must not slow the others' start."""
    stop_timeout_s: float = 15.0
    """Patience between SIGTERM and SIGKILL."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked `foundry up` for."""

    models: bool = True
    """Register the default deployments at the first start."""
    model_uris: tuple[str, ...] = ()
    """Models to deploy; the first one instead of the default chat model."""
    pull: tuple[str, ...] = ()
    """Model sources to fetch before they are deployed."""
    register: bool = False
    """Whether the registration task is due."""


def base_environment(instance: Instance) -> dict[str, str]:
    """What every child gets: the user's environment, the instance's marker, and its settings."""
    ports, layout = instance.known_ports(), instance.layout
    inherited = environment()
    code_root = str(Path(foundry.__file__).parent.parent)
    path = f"{Path(sys.executable).parent}:{inherited.get('PATH', '/usr/bin:/bin')}"
    python_path = ":".join([code_root, *filter(None, inherited.get("PYTHONPATH", "").split(":"))])
    kept = {name: value for name, value in inherited.items() if name not in _NOT_INHERITED}
    return {
        **kept,
        ID_VARIABLE: instance.id,
        "PATH": path,
        "PYTHONPATH": python_path,
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",  # Ray's process titles must not overwrite the environment that carries our marker
        "FOUNDRY_HOME": str(layout.home),
        "FOUNDRY_CONTROL__URL": instance.control_url,
        "FOUNDRY_CONTROL__HOST": LOOPBACK,
        "FOUNDRY_CONTROL__PORT": str(ports.control),
        "FOUNDRY_CONTROL__DATABASE_URL_FILE": str(layout.secrets / "database_url"),
        "FOUNDRY_METRICS__URL": f"http://{LOOPBACK}:{ports.metrics}",
        "FOUNDRY_RAY__DASHBOARD_URL": instance.dashboard_url,
        "FOUNDRY_RAY__SERVE_URL": f"http://{LOOPBACK}:{ports.serve}",
        "FOUNDRY_RAY__SERVE_HOST": LOOPBACK,
        "FOUNDRY_RAY__SERVE_PORT": str(ports.serve),
        **ray_authentication(instance),
    }


def ray_authentication(instance: Instance) -> dict[str, str]:
    """What a client of the instance's Ray needs to be let in."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(instance.layout.secrets / "ray.token")}


def ray_environment(instance: Instance) -> dict[str, str]:
    """Ray's and Serve's switches. Everything descended from the head node inherits them."""
    ports, folder = (
        instance.known_ports(),
        instance.temp_dir / "h",
    )  # HAProxy takes socket paths of 97 bytes; Ray adds 57
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the node's address stays 127.0.0.1: every listener is on loopback
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_worker_prestart": "0",  # idle workers cost a CPU second each, and Serve starts its own
        "RAY_prestart_worker_first_driver": "0",
        "RAY_agent_register_timeout_ms": "120000",  # two busy cores need longer than 30 s
        "RAY_worker_niceness": "0",  # Ray's default of 15 makes answers wait for everything else on the machine
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # one node: there is nobody to hand requests over to
        "DASHBOARD_METRIC_PORT": str(ports.dashboard_metrics),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.ingress.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.ingress.stop - 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports.ingress_grpc.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports.ingress_grpc.stop - 1),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy.write_wrapper(instance.layout.run / "haproxy")),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m.sock"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        **HAPROXY_RETRIES,
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
        "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
        # For deployments with a prefix-aware router alone: HAProxy shows it this much of a request's body.
        "RAY_SERVE_INGRESS_REQUEST_ROUTER_FORWARD_BODY": "1",
        "RAY_SERVE_HAPROXY_INGRESS_REQUEST_ROUTER_BUFSIZE": "262144",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # a log line a request to a Python process: 60 to 130 us of CPU each
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.fallback_grpc),
        "VLLM_HOST_IP": LOOPBACK,  # engines' own channels (torch rendezvous, gloo) stay on loopback too
        "GLOO_SOCKET_IFNAME": "lo",
    }


def table(instance: Instance, wanted: Wanted) -> list[Service]:
    """The instance's services. Order is that of the display; dependencies decide the order of starting."""
    base = base_environment(instance)

    def env(name: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**base, SERVICE_VARIABLE: name, **(more or {})}

    pulls = _pulls(instance, wanted, env)
    return [
        *_stores(instance, env),
        _ray(instance, env("ray", ray_environment(instance))),
        *pulls,
        Service(
            name="control-api",
            command=_python("control_api"),
            env=env("control-api"),
            needs=("postgres",),
            probe=HttpProbe(instance.known_ports().control, "/healthz"),
            detail="control API",
        ),
        *_registration(instance, wanted, env, needs=("control-api", *(pull.name for pull in pulls))),
    ]


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _stores(instance: Instance, env: Environment) -> list[Service]:
    ports, home = instance.known_ports(), str(instance.home)
    return [
        Service(
            name="postgres",
            command=_python("foundry.local.postgres", "--home", home, "--port", str(ports.postgres)),
            env=env("postgres"),
            probe=LogProbe("ready "),
            detail="PostgreSQL, the control database",
            stop_after=("control-api",),
            stop_timeout_s=40.0,
        ),
        Service(
            name="metrics",
            command=_python(
                *("foundry.metrics.embedded", "--path", f"{home}/metrics"),
                *("--host", LOOPBACK, "--port", str(ports.metrics)),
            ),
            env=env("metrics"),
            probe=HttpProbe(ports.metrics, "/ping"),
            detail="ClickHouse (chDB), usage and metrics",
            stop_after=("control-api", "ray"),
        ),
    ]


def _ray(instance: Instance, env: Mapping[str, str]) -> Service:
    token = (instance.layout.secrets / "ray.token").read_text(encoding="utf-8").strip()
    return Service(
        name="ray",
        command=_python("foundry.local.ray_head", "--home", str(instance.home)),
        env={**env, "PYTHONPATH": f"{_RAY_SITE}:{env['PYTHONPATH']}"},
        probe=HttpProbe(instance.known_ports().dashboard, "/api/serve/applications/", token),
        detail="Ray head node and dashboard",
        stop_after=("control-api",),
        stop_timeout_s=40.0,
    )


def _pulls(instance: Instance, wanted: Wanted, env: Environment) -> list[Service]:
    """One download after the other: they share two cores with everything else."""
    rows: list[Service] = []
    for number, uri in enumerate(wanted.pull):
        name = f"model-{number + 1}"
        rows.append(
            Service(
                name=name,
                kind="task",
                command=_python("foundry.catalog", "pull", uri, "--home", str(instance.home)),
                env=env(name),
                needs=(rows[-1].name,) if rows else (),
                detail=uri,
                niceness=_PULL_NICENESS,
            )
        )
    return rows


def _registration(
    instance: Instance, wanted: Wanted, env: Environment, *, needs: tuple[str, ...]
) -> list[Service]:
    if not wanted.register:
        return []
    models = [argument for uri in wanted.model_uris for argument in ("--model", uri)]
    command = _python("foundry.local.register", "--home", str(instance.home), *models)
    detail = "default deployments and routes"
    return [
        Service(
            name="register", kind="task", command=command, env=env("register"), needs=needs, detail=detail
        )
    ]
