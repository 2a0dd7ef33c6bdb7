"""A deployment as data: one model on one engine on one cluster, and the phases of its life.

What it does not know: Ray, vLLM, SGLang (see `engines/`), databases (see `control_api/`).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from foundry.types.money import Price

DeploymentName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,45}[a-z0-9])?$")]
"""A DNS label of at most 47 characters (KubeRay's limit for a RayService): it names the Serve application
too."""


class Task(StrEnum):
    """What a deployment computes; it fixes the engine's runner and the endpoints that a route may serve."""

    GENERATE = "generate"
    EMBED = "embed"
    """Embeddings; through them also score and rerank, by similarity."""
    RERANK = "rerank"
    """Score and rerank by a cross-encoder."""
    CLASSIFY = "classify"
    MODERATE = "moderate"
    TRANSCRIBE = "transcribe"
    """Speech to text; translation to English too, where the model can."""
    SPEAK = "speak"
    IMAGE = "image"


AdapterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", max_length=200)]


class Autoscaling(BaseModel):
    """Replicas by load, within bounds. With `min_replicas` 0 a deployment that nobody uses gives its hardware back; the
    gateway holds the request that wakes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: int = Field(default=1, ge=0, le=1024)
    max_replicas: int = Field(default=1, ge=1, le=1024)
    target_in_flight: float = Field(default=8, gt=0)
    """Requests in flight per replica that scaling aims at."""
    upscale_delay_s: float = Field(default=10, ge=0)
    """How long the load must ask for more replicas before they are started; waking from zero never waits."""
    downscale_delay_s: float = Field(default=300, ge=0)
    """How long the load must ask for fewer replicas before they are stopped."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class DeploymentSpec(BaseModel):
    """Desired state of one deployment. GPU and CPU and every engine come from this same object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: DeploymentName
    model: str = Field(min_length=1)
    """Model source: `pypi://distribution@version`, `hf://org/name[@revision]`, `file:///path`,
    `s3://bucket/prefix`."""
    served_model_name: str = Field(min_length=1, max_length=200)
    """The name the engine answers to; the gateway rewrites the caller's route name to it."""
    task: Task = Task.GENERATE
    engine: Literal["vllm", "sglang", "whisper", "piper"] = "vllm"
    """whisper: faster-whisper, for `transcribe`. piper: for `speak`. The rest: vllm or sglang."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto`: gpu when the cluster has one, else cpu; the choice is logged with its reason."""
    accelerator_type: str | None = None
    """Ray's accelerator name ("H100", "L4", ...) when the deployment must land on that GPU."""
    replicas: int = Field(default=1, ge=1, le=1024)
    autoscaling: Autoscaling | None = None
    """None: always `replicas`."""
    replica_routing: Literal["balanced", "prefix"] = "balanced"
    """Which replica a request goes to. balanced: the one with the fewest connections. prefix: Ray Serve's prefix-aware
    router, so that requests that begin alike meet a warm KV cache."""
    adapters: dict[AdapterName, str] = Field(default_factory=dict, max_length=64)
    """LoRA adapters: the model name that a route's target asks for, to its source (as `model`)."""
    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
    pipeline_parallel_size: int = Field(default=1, ge=1, le=64)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest context in tokens, input plus output; None: what the model's configuration says."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Most sequences that the engine batches together; None: the engine's default."""
    kv_cache_memory_bytes: int | None = Field(default=None, ge=1)
    """Explicit KV-cache size per worker; skips the engine's profiling run. None: the engine measures."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """Logical CPUs in the placement-group bundle of each worker (TP x PP workers)."""
    engine_args: dict[str, JsonValue] = Field(default_factory=dict)
    """Further engine flags, spelled as the engine's Python arguments. They may not repeat a field above."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the engine's processes."""
    price: Price | None = None
    """What its tokens are charged at; None: usage is recorded with `price_status = "unknown"`."""


class DeploymentPhase(StrEnum):
    """Where a deployment stands. Order of a good start: queued, placing, pulling, loading, warming, ready."""

    QUEUED = "queued"
    """Recorded; nothing has been asked of the cluster yet."""
    PLACING = "placing"
    """Asked of the cluster; its placement group is not up."""
    PULLING = "pulling"
    """Weights are being fetched or converted."""
    LOADING = "loading"
    """The engine is importing, reading weights, sizing its KV cache."""
    WARMING = "warming"
    """The engine runs its warm-up."""
    READY = "ready"
    """At least one replica answers."""
    IDLE = "idle"
    """Scaled to zero: the next request starts a replica."""
    DEGRADED = "degraded"
    """It answers, with fewer replicas than asked for."""
    FAILED = "failed"
    """It does not answer and will not by itself; `detail` has the engine's words and the next step."""
    DELETING = "deleting"


SERVING_PHASES = frozenset({DeploymentPhase.READY, DeploymentPhase.DEGRADED})
STARTING_PHASES = frozenset(
    {
        DeploymentPhase.QUEUED,
        DeploymentPhase.PLACING,
        DeploymentPhase.PULLING,
        DeploymentPhase.LOADING,
        DeploymentPhase.WARMING,
        DeploymentPhase.IDLE,
    }
)
"""Not serving yet: worth waiting for."""


class DeploymentStatus(BaseModel):
    """Observed state of one deployment, as the reconciler last saw it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: DeploymentPhase
    detail: str = ""
    """One line for a person: what is happening, or what went wrong and the next step."""
    percent: float | None = Field(default=None, ge=0, le=100)
    """Progress within the phase, when it can be known."""
    eta_s: float | None = Field(default=None, ge=0)
    """Seconds until ready, when it can be known."""
    ready_replicas: int = Field(default=0, ge=0)
    last_log_line: str = ""
    updated_at: datetime
