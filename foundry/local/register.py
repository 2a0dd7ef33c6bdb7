"""Registers the first deployments and their routes through the control API, once; explicit models whenever they are asked for.

A marker remembers the defaults' first registration, and a deployment or route that exists is never overwritten, so what the user changed
or deleted stays so. What it does not know: how a deployment comes up (the control API's reconciler), or that it runs as a task.

Run: `python -m foundry.local.register --home DIR [--model URI ...]`
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from foundry.client import ControlClient
from foundry.engines.defaults import DEFAULT_DEPLOYMENTS
from foundry.errors import DeploymentSpecError, FoundryError
from foundry.local import instance as instances
from foundry.local import registration
from foundry.local.instance import Instance
from foundry.types.control import EngineTargetSpec
from foundry.types.deployment import DeploymentSpec, Task

_NAME_LENGTH = 47


def spec_for(uri: str) -> DeploymentSpec:
    """A deployment of the model at `uri` with every choice left to the engine. Raises DeploymentSpecError."""
    last = re.sub(r"[@?#].*$", "", uri.rstrip("/")).rsplit("/", 1)[-1]
    name = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:_NAME_LENGTH].strip("-")
    if not name or "://" not in uri:
        raise DeploymentSpecError(
            f"{uri!r} is no model source: use hf://org/name, file:///path or pypi://distribution@version"
        )
    return DeploymentSpec(name=name, model=uri, served_model_name=name)


def specs_for(instance: Instance, model_uris: Sequence[str]) -> list[DeploymentSpec]:
    """What is to be registered now: explicit models, and the defaults if they never were."""
    chosen = [spec_for(uri) for uri in model_uris]
    if not instance.layout.registered_file.exists():
        chosen += [spec for spec in DEFAULT_DEPLOYMENTS if not (model_uris and spec.task is Task.GENERATE)]
    return chosen


def register(instance: Instance, model_uris: Sequence[str]) -> list[str]:
    """Register what is due; the names of the new deployments."""
    made: list[str] = []
    with ControlClient(instance.control_url, instance.admin_key) as control:
        deployments = {found.name for found in control.deployments.list()}
        routes = {found.name for found in control.routes.list()}
        for spec in specs_for(instance, model_uris):
            if spec.name not in deployments:
                control.deployments.put(spec)
                made.append(spec.name)
            if spec.served_model_name not in routes:
                target = EngineTargetSpec(deployment=spec.name)
                control.routes.put(spec.served_model_name, [target], task=spec.task)
    registration.remember(instance.layout.registered_file, made)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m foundry.local.register")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[])
    options = parser.parse_args(arguments)
    try:
        instance = instances.load_or_create(options.home)
        made = register(instance, options.model)
    except FoundryError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return 1
    sys.stdout.write(f"registered: {', '.join(made) or 'nothing new'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
