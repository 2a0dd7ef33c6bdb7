"""What an engine module returns, and the checks and choices that all engines share.

What it does not know: any engine's own flags (`vllm.py`, `sglang.py`), Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue

from foundry.errors import DeploymentSpecError
from foundry.types.deployment import Autoscaling, DeploymentSpec

Device = Literal["cpu", "gpu"]
Bundle = dict[str, float]

_MAX_ONGOING_REQUESTS = 10_000
"""Per replica. The engine queues by itself and the gateway limits; Serve must not answer 503 before either does."""
_PREFIX_ROUTER = "ray.serve.llm.request_router:PrefixCacheAffinityRouter"
_LOOK_BACK_S = 15.0
"""Load is averaged over this time (Serve demands more than its interval of 10 s): Serve's 30 s are slower than a user's patience."""
_ACCELERATOR_SHARE = 0.001
"""Amount of Ray's `accelerator_type:X` resource that pins a bundle to nodes with that accelerator."""


@dataclass(frozen=True)
class ClusterResources:
    """What the cluster offers, when it is known."""

    cpus: float
    gpus: float
    fixed_size: bool
    """True: no autoscaler, what does not fit now never fits."""


@dataclass(frozen=True)
class EngineConfig:
    """All that the Serve application needs to start one deployment."""

    device: Device
    llm_config: dict[str, Any]  # Any: handed to ray.serve.llm.LLMConfig, which validates it
    """Arguments of `ray.serve.llm.LLMConfig`, but for the model folder, which the replica fills in."""
    serve_options: dict[str, Any]  # Any: handed to ray.serve.deployment, which validates it
    """Options of the Serve deployment: replicas, placement group, actor resources, environment."""
    decisions: tuple[str, ...]
    """Every derived choice with its reason, for the log."""


def choose_device(spec: DeploymentSpec, cluster: ClusterResources | None) -> tuple[Device, str]:
    """The device and why. Raises DeploymentSpecError when the spec contradicts itself."""
    if spec.device == "cpu" and spec.accelerator_type:
        raise DeploymentSpecError(
            f"accelerator_type {spec.accelerator_type!r} needs a GPU, but device is 'cpu': drop one of them",
            param="accelerator_type",
        )
    if spec.device != "auto":
        return spec.device, f"device={spec.device}: the deployment says so"
    if spec.accelerator_type:
        return "gpu", f"device=gpu: accelerator_type {spec.accelerator_type!r} asks for one"
    if cluster is not None and cluster.gpus > 0:
        return "gpu", f"device=gpu: the cluster has {cluster.gpus:g} GPUs"
    return "cpu", "device=cpu: the cluster has no GPU"


def refuse_repeated(spec: DeploymentSpec, owned: dict[str, str]) -> None:
    """Raise DeploymentSpecError for an engine argument that a field of the spec, or the platform, already sets.

    owned: engine argument to what to use instead.
    """
    for key in spec.engine_args:
        if key in owned:
            raise DeploymentSpecError(
                f"engine_args.{key} of deployment {spec.name!r} repeats what the platform sets: use {owned[key]}",
                param=f"engine_args.{key}",
            )


def worker_bundle(spec: DeploymentSpec, device: Device) -> Bundle:
    """Resources of one worker."""
    bundle: Bundle = {"CPU": spec.cpus_per_worker}
    if device == "gpu":
        bundle["GPU"] = 1
        if spec.accelerator_type:
            bundle[f"accelerator_type:{spec.accelerator_type}"] = _ACCELERATOR_SHARE
    return bundle


def require_room(spec: DeploymentSpec, bundles: list[Bundle], cluster: ClusterResources | None) -> None:
    """Raise DeploymentSpecError when one replica can never fit into a cluster of fixed size."""
    if cluster is None or not cluster.fixed_size:
        return
    for kind, offered in (("GPU", cluster.gpus), ("CPU", cluster.cpus)):
        needed = sum(bundle.get(kind, 0) for bundle in bundles)
        if needed > offered:
            raise DeploymentSpecError(
                f"deployment {spec.name!r} needs {needed:g} {kind}s for one replica (tensor_parallel_size "
                f"{spec.tensor_parallel_size} x pipeline_parallel_size {spec.pipeline_parallel_size}), the cluster "
                f"has {offered:g}: lower them or add nodes",
                param="tensor_parallel_size",
            )


def serve_options(
    spec: DeploymentSpec, bundles: list[Bundle], *, strategy: str, env: dict[str, str]
) -> dict[str, Any]:  # Any: see EngineConfig
    """Options of the Serve deployment. The replica itself lives in the first bundle and needs nothing beside it."""
    options: dict[str, Any] = {  # Any: see EngineConfig
        "name": "engine",
        "max_ongoing_requests": _MAX_ONGOING_REQUESTS,
        "health_check_period_s": 5,
        "health_check_timeout_s": 30,  # an engine in a long prefill on few cores answers late; that is no failure
        "graceful_shutdown_timeout_s": 20,
        "placement_group_bundles": bundles,
        "placement_group_strategy": strategy,
        "ray_actor_options": {"num_cpus": spec.cpus_per_worker, "runtime_env": {"env_vars": env}},
    }
    if spec.replica_routing == "prefix":
        options["request_router_config"] = {"request_router_class": _PREFIX_ROUTER}
    if spec.autoscaling is None:
        return {**options, "num_replicas": spec.replicas}
    return {**options, "autoscaling_config": _autoscaling(spec.autoscaling)}


def _autoscaling(wanted: Autoscaling) -> dict[str, float]:
    return {
        "min_replicas": wanted.min_replicas,
        "initial_replicas": max(1, wanted.min_replicas),  # the first start shows that the model loads at all
        "max_replicas": wanted.max_replicas,
        "target_ongoing_requests": wanted.target_in_flight,
        "upscale_delay_s": wanted.upscale_delay_s,
        "downscale_delay_s": wanted.downscale_delay_s,
        "look_back_period_s": _LOOK_BACK_S,
    }


def without_none(arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Drop the arguments that are left to the engine."""
    return {key: value for key, value in arguments.items() if value is not None}
