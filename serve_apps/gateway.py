"""The gateway as a Ray Serve application: `serve_apps.gateway:build`, route prefix `/`.

Serve's HAProxy hands each connection straight to a replica's own HTTP server, which calls the raw ASGI app;
no request passes through Ray. What it does not know: requests (`foundry.gateway`).
Run (the control API's reconciler does): `PUT /api/serve/applications/` with `import_path:
serve_apps.gateway:build`.
"""

from __future__ import annotations

import gc

from ray import serve
from ray.serve import Application, Deployment
from ray.serve.schema import LoggingConfig

from foundry.gateway.app import Gateway
from foundry.settings import load
from foundry.telemetry import configure
from serve_apps import joined_writes
from serve_apps.limit_ledger import RayLedger

_IN_FLIGHT = 4096
"""Requests that one replica may hold open: streams mostly wait, so memory is the bound, not the CPU."""
_GC_THRESHOLD = 20_000
"""Objects that gather before Python looks for cycles among the young: at its default of 700 that is several times a request
and 6% of the replica's CPU (docs/performance.md)."""


def _app() -> Gateway:
    joined_writes.install()  # before Serve starts this replica's HTTP server
    gc.set_threshold(_GC_THRESHOLD)
    settings = load()
    configure("gateway", settings.log_level)
    replica = serve.get_replica_context().replica_id.unique_id
    return Gateway(settings, gateway_id=replica, sends_request_id=False, ledger=RayLedger(settings))


def build(args: dict[str, str]) -> Application:
    """The application. args: `replicas` (default 1)."""
    deployment: Deployment = serve.deployment(
        name="gateway",
        num_replicas=int(args.get("replicas", "1")),
        max_ongoing_requests=_IN_FLIGHT,
        ray_actor_options={"num_cpus": 0.1},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=30,
        # Serve makes its access record at INFO and drops it later: at WARNING it is not made (2% of the CPU).
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )(serve.ingress(_app)())
    return deployment.bind()
