"""`DeploymentSpec` to the `ray.serve.llm` configuration of SGLang: a pure function, validated without running.

ray 2.60 starts SGLang's RayEngine inside the replica with `engine_kwargs` as they are and puts all TP x PP ranks of a node into
one bundle. What it does not know: Ray and SGLang (it imports neither), where the model lies.
"""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from foundry.engines.config import (
    ClusterResources,
    EngineConfig,
    choose_device,
    refuse_repeated,
    require_room,
    serve_options,
    without_none,
    worker_bundle,
)
from foundry.errors import DeploymentSpecError
from foundry.types.deployment import DeploymentSpec, Task

_OWNED = {
    "model_path": "the field `model`",
    "served_model_name": "the field `served_model_name`",
    "is_embedding": "the field `task`",
    "tp_size": "the field `tensor_parallel_size`",
    "pp_size": "the field `pipeline_parallel_size`",
    "dp_size": "the field `replicas`",
    "dtype": "the field `dtype`",
    "context_length": "the field `max_model_len`",
    "max_running_requests": "the field `max_num_seqs`",
    "device": "the field `device`",
    "api_key": "nothing: engines demand the instance's engine token",
    "host": "nothing: Serve binds the replica",
    "port": "nothing: Serve binds the replica",
}


def render(spec: DeploymentSpec, cluster: ClusterResources | None = None) -> EngineConfig:
    """The configuration of one SGLang deployment. Raises DeploymentSpecError naming what cannot be run as written."""
    refuse_repeated(spec, _OWNED)
    device, reason = choose_device(spec, cluster)
    if device == "cpu":
        raise DeploymentSpecError(
            f"deployment {spec.name!r}: sglang runs on GPUs only ({reason}): use engine 'vllm', or a cluster with a GPU",
            param="engine",
        )
    if spec.kv_cache_memory_bytes is not None:
        raise DeploymentSpecError(
            "kv_cache_memory_bytes is vLLM's: give SGLang engine_args.mem_fraction_static or max_total_tokens",
            param="kv_cache_memory_bytes",
        )
    if spec.adapters:
        raise DeploymentSpecError(
            "adapters are served by engine 'vllm': give SGLang engine_args.lora_paths", param="adapters"
        )
    workers = spec.tensor_parallel_size * spec.pipeline_parallel_size
    bundle = {key: value * workers for key, value in worker_bundle(spec, device).items()}
    require_room(spec, [bundle], cluster)
    options = serve_options(spec, [bundle], strategy="STRICT_PACK", env=dict(spec.env))
    llm_config: dict[str, Any] = {  # Any: see EngineConfig
        "model_loading_config": {"model_id": spec.served_model_name},
        "engine_kwargs": {**_arguments(spec), **spec.engine_args},
        "accelerator_config": {"kind": device},
        "accelerator_type": spec.accelerator_type,
        "experimental_configs": {"stream_batching_interval_ms": 0},
        "runtime_env": {"env_vars": dict(spec.env)},
        "log_engine_metrics": True,
    }
    return EngineConfig(device, llm_config, options, decisions=(reason,))


def _arguments(spec: DeploymentSpec) -> dict[str, JsonValue]:
    arguments: dict[str, JsonValue] = {
        "served_model_name": spec.served_model_name,
        "is_embedding": spec.task is Task.EMBED,
        "tp_size": spec.tensor_parallel_size,
        "pp_size": spec.pipeline_parallel_size,
        "dtype": spec.dtype,
        "context_length": spec.max_model_len,
        "max_running_requests": spec.max_num_seqs,
    }
    return without_none(arguments)
