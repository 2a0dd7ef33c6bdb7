"""The engines by name. To add one: a module with `render`, a line here, a server in `serve_apps/engine.py`.

What it does not know: how an engine is started.
"""

from __future__ import annotations

from collections.abc import Callable

from foundry.engines import piper, sglang, vllm, whisper
from foundry.engines.config import ClusterResources, EngineConfig
from foundry.types.deployment import DeploymentSpec

ENGINES: dict[str, Callable[[DeploymentSpec, ClusterResources | None], EngineConfig]] = {
    "vllm": vllm.render,
    "sglang": sglang.render,
    "whisper": whisper.render,
    "piper": piper.render,
}


def render(spec: DeploymentSpec, cluster: ClusterResources | None = None) -> EngineConfig:
    """The configuration of a deployment by its own engine. Raises DeploymentSpecError naming the field at fault.

    cluster: what it offers, when known: decides `device="auto"` and refuses what can never fit.
    """
    return ENGINES[spec.engine](spec, cluster)
