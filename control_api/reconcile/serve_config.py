"""Desired state as ONE Ray Serve configuration: the gateway and one application per deployment. Pure functions.

What it does not know: HTTP, the database, what the applications' builders do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from control_api.clusters.schemas import GATEWAY_NAME
from foundry.settings import RaySettings
from foundry.types.deployment import DeploymentSpec, DeploymentStatus

Config = dict[str, JsonValue]


@dataclass(frozen=True)
class Desired:
    """One deployment as the reconciler loaded it."""

    deployment_id: str
    row_version: int
    generation: int
    observed_generation: int
    attempt: int
    spec: DeploymentSpec
    status: DeploymentStatus
    deleting: bool


def serve_config(ray: RaySettings, deployments: Sequence[Desired]) -> Config:
    """The body of `PUT /api/serve/applications/`; deployments that are being deleted are left out."""
    wanted = sorted((item for item in deployments if not item.deleting), key=lambda item: item.spec.name)
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": ray.serve_host, "port": ray.serve_port},
        "applications": [_gateway(), *(_engine(item) for item in wanted)],
    }


def application_names(config: Config) -> frozenset[str]:
    """Names of the applications in a configuration."""
    applications = config["applications"]
    rows = applications if isinstance(applications, list) else []
    return frozenset(str(row["name"]) for row in rows if isinstance(row, dict))


def fingerprint(config: Config) -> str:
    """SHA-256 of the configuration: equal means that there is nothing to submit."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _gateway() -> Config:
    return {"name": GATEWAY_NAME, "import_path": "serve_apps.gateway:build", "route_prefix": "/"}


def _engine(item: Desired) -> Config:
    name = item.spec.name
    application: Config = {
        "name": name,
        "import_path": "serve_apps.engine:build",
        "route_prefix": f"/engines/{name}",
        "args": {"spec": item.spec.model_dump(mode="json")},
    }
    if item.attempt:  # Serve builds an application anew only if its code version, which holds this, changes
        application["runtime_env"] = {"env_vars": {"FOUNDRY_DEPLOYMENT_ATTEMPT": str(item.attempt)}}
    return application
