"""`DeploymentSpec` to the `ray.serve.llm` configuration of vLLM: a pure function, GPU and CPU from the same object.

On a GPU vLLM's own defaults stand. On a CPU the choices are those of docs/engines.md, measured for start-up on few cores.
What it does not know: Ray and vLLM (it imports neither), where the model lies, Serve applications.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from pydantic import JsonValue

from foundry.engines.config import (
    ClusterResources,
    Device,
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
    "model": "the field `model`",
    "served_model_name": "the field `served_model_name`",
    "runner": "the field `task`",
    "tensor_parallel_size": "the field `tensor_parallel_size`",
    "pipeline_parallel_size": "the field `pipeline_parallel_size`",
    "data_parallel_size": "the field `replicas`",
    "dtype": "the field `dtype`",
    "max_model_len": "the field `max_model_len`",
    "max_num_seqs": "the field `max_num_seqs`",
    "kv_cache_memory_bytes": "the field `kv_cache_memory_bytes`",
    "distributed_executor_backend": "the field `device`, which decides it",
    "enable_lora": "the field `adapters`",
    "lora_modules": "the field `adapters`",
    "api_key": "nothing: engines demand the instance's engine token",
    "host": "nothing: Serve binds the replica",
    "port": "nothing: Serve binds the replica",
}
_RUNNERS = {
    Task.GENERATE: "generate",
    Task.TRANSCRIBE: "generate",  # Whisper and other models that hear; the engine 'whisper' is lighter on a CPU
    Task.EMBED: "pooling",
    Task.RERANK: "pooling",
    Task.CLASSIFY: "pooling",
    Task.MODERATE: "pooling",  # a classifier, asked through /v1/classify
}
"""vLLM's runner of each task that it does."""
_CPU_KV_CACHE_BYTES = 1024**3
"""KV cache on a CPU when the deployment names none: memory is shared with everything else on the machine."""
_MAX_LOADED_ADAPTERS = 8
"""Adapters in one batch at a time; more wait in memory and are swapped in (`engine_args.max_loras` says otherwise)."""
_TEMPLATE_SCHEME = "foundry:"
"""`engine_args.chat_template = "foundry:NAME"` names a template in `templates/`; its text travels with the spec."""


def render(spec: DeploymentSpec, cluster: ClusterResources | None = None) -> EngineConfig:
    """The configuration of one vLLM deployment. Raises DeploymentSpecError naming what cannot be run as written."""
    refuse_repeated(spec, _OWNED)
    if spec.task not in _RUNNERS:
        raise DeploymentSpecError(
            f"deployment {spec.name!r}: vllm does not do task {spec.task.value!r} (speech: engine 'piper')",
            param="task",
        )
    device, reason = choose_device(spec, cluster)
    workers = spec.tensor_parallel_size * spec.pipeline_parallel_size
    bundles = [worker_bundle(spec, device) for _ in range(workers)]
    require_room(spec, bundles, cluster)
    derived, reasons = _cpu_arguments(spec) if device == "cpu" else ({}, ())
    arguments = {**_arguments(spec), **derived, **_expand_template(spec)}
    env = {**_environment(spec, device), **spec.env}
    options = serve_options(spec, bundles, strategy="STRICT_PACK" if device == "cpu" else "PACK", env=env)
    llm_config: dict[str, Any] = {  # Any: see EngineConfig
        "model_loading_config": {"model_id": spec.served_model_name},
        "engine_kwargs": arguments,
        "accelerator_config": {"kind": device},
        "accelerator_type": spec.accelerator_type,
        "placement_group_config": {"bundles": bundles, "strategy": options["placement_group_strategy"]},
        "experimental_configs": {"stream_batching_interval_ms": 0},
        "runtime_env": {"env_vars": env},
        "log_engine_metrics": True,
    }
    return EngineConfig(device, llm_config, options, decisions=(reason, *reasons))


def _arguments(spec: DeploymentSpec) -> dict[str, JsonValue]:
    """What holds on every device."""
    arguments: dict[str, JsonValue] = {
        "runner": _RUNNERS[spec.task],
        "tensor_parallel_size": spec.tensor_parallel_size,
        "pipeline_parallel_size": spec.pipeline_parallel_size,
        "dtype": spec.dtype,
        "max_model_len": spec.max_model_len,
        "max_num_seqs": spec.max_num_seqs,
        "kv_cache_memory_bytes": spec.kv_cache_memory_bytes,
        "enable_prompt_tokens_details": True,  # cached tokens in `usage`: the meter charges them at their own rate
    }
    if (
        spec.adapters
    ):  # `lora_modules` and `max_lora_rank` come from the adapters' files, which the replica has
        arguments |= {"enable_lora": True, "max_loras": min(len(spec.adapters), _MAX_LOADED_ADAPTERS)}
        arguments["max_cpu_loras"] = len(spec.adapters)
    return without_none(arguments)


def _cpu_arguments(spec: DeploymentSpec) -> tuple[dict[str, JsonValue], tuple[str, ...]]:
    """Choices for machines without a GPU, and their reasons."""
    arguments: dict[str, JsonValue] = {}
    reasons: list[str] = []
    if spec.kv_cache_memory_bytes is None:
        arguments["kv_cache_memory_bytes"] = _CPU_KV_CACHE_BYTES
        reasons.append(
            f"kv_cache_memory_bytes={_CPU_KV_CACHE_BYTES}: vLLM would take 92% of this machine's memory; set it in the deployment"
        )
    if spec.pipeline_parallel_size == 1:
        arguments["enforce_eager"] = True
        reasons.append("enforce_eager: compiling takes minutes on a CPU (docs/engines.md)")
        return arguments, tuple(reasons)
    if spec.engine_args.get("enforce_eager"):
        raise DeploymentSpecError(
            "engine_args.enforce_eager cannot be used with pipeline_parallel_size > 1 on a CPU: leave it out",
            param="engine_args.enforce_eager",
        )
    # The CPU worker hands tensors between stages only from a traced model; the `eager` backend compiles nothing.
    arguments["compilation_config"] = {"mode": 2, "backend": "eager"}
    reasons.append("compilation_config: pipeline stages on a CPU need a traced model")
    return arguments, tuple(reasons)


def _environment(spec: DeploymentSpec, device: Device) -> dict[str, str]:
    """Environment of the engine's processes."""
    env = {
        "HF_HUB_OFFLINE": "1",  # the catalog has fetched everything; a look-up would only wait for its time-out
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # empty means off: a second start must not compile 10 s of Python again
        "TOKENIZERS_PARALLELISM": "false",
    }
    if device == "cpu":
        env |= {
            "OMP_NUM_THREADS": str(max(1, int(spec.cpus_per_worker))),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # Ray schedules logical CPUs; binding would pin all replicas to the first
            "VLLM_PLUGINS": "",
        }
    return env


def _expand_template(spec: DeploymentSpec) -> dict[str, JsonValue]:
    """The spec's engine arguments, with a template of ours replaced by its text."""
    arguments = dict(spec.engine_args)
    template = arguments.get("chat_template")
    if isinstance(template, str) and template.startswith(_TEMPLATE_SCHEME):
        name = template.removeprefix(_TEMPLATE_SCHEME)
        folder = resources.files("foundry.engines") / "templates"
        known = sorted(
            entry.name.removesuffix(".jinja") for entry in folder.iterdir() if entry.name.endswith(".jinja")
        )
        if name not in known:
            raise DeploymentSpecError(
                f"engine_args.chat_template {template!r} is not one of ours: {', '.join(known)}",
                param="engine_args.chat_template",
            )
        arguments["chat_template"] = (folder / f"{name}.jinja").read_text(encoding="utf-8")
    return arguments
