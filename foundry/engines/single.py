"""What engines of one process and one model folder share (whisper, piper): no parallel workers, no KV cache.

What it does not know: any such engine's arguments.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from foundry.engines.config import (
    ClusterResources,
    EngineConfig,
    choose_device,
    require_room,
    serve_options,
    worker_bundle,
)
from foundry.errors import DeploymentSpecError
from foundry.types.deployment import DeploymentSpec, Task

_NEUTRAL: dict[str, JsonValue] = {
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "kv_cache_memory_bytes": None,
    "max_model_len": None,
}
"""Fields of the big engines, and the value that means nothing."""


def require_task(spec: DeploymentSpec, task: Task) -> None:
    """Raise DeploymentSpecError unless the deployment is for the one thing that the engine does."""
    if spec.task is not task:
        raise DeploymentSpecError(
            f"deployment {spec.name!r}: {spec.engine} does task {task.value!r}, not {spec.task.value!r}",
            param="task",
        )


def refuse_unknown(spec: DeploymentSpec, known: Mapping[str, type]) -> None:
    """Raise DeploymentSpecError for an engine argument that is not known or has another type."""
    for key, value in spec.engine_args.items():
        kind = known.get(key)
        if kind is None:
            raise DeploymentSpecError(
                f"engine_args.{key} of deployment {spec.name!r} is not one of {spec.engine}'s: {', '.join(known)}",
                param=f"engine_args.{key}",
            )
        fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise DeploymentSpecError(
                f"engine_args.{key} must be of type {kind.__name__}, not {value!r}",
                param=f"engine_args.{key}",
            )


def render_single(
    spec: DeploymentSpec, cluster: ClusterResources | None, arguments: dict[str, JsonValue]
) -> EngineConfig:
    """The configuration. Raises DeploymentSpecError for fields that only other engines have."""
    for field, neutral in _NEUTRAL.items():
        if getattr(spec, field) != neutral:
            raise DeploymentSpecError(
                f"{spec.engine} has no {field} ({getattr(spec, field)!r}): leave it out", param=field
            )
    device, reason = choose_device(spec, cluster)
    bundles = [worker_bundle(spec, device)]
    require_room(spec, bundles, cluster)
    env = {
        "HF_HUB_OFFLINE": "1",  # the catalog has fetched everything
        "OMP_NUM_THREADS": str(max(1, int(spec.cpus_per_worker))),
        "PYTHONDONTWRITEBYTECODE": "",
        **spec.env,
    }
    return EngineConfig(
        device,
        {
            "model_loading_config": {"model_id": spec.served_model_name},
            "engine_kwargs": arguments,
            "threads": max(1, int(spec.cpus_per_worker)),
        },
        serve_options(spec, bundles, strategy="PACK", env=env),
        decisions=(reason,),
    )
