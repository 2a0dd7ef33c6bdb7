"""The snapshot: everything a gateway needs to serve, in one immutable, versioned, signed document.

The control API builds and signs it, gateways pull it and keep the last one on disk (ARCHITECTURE.md,
decision 2). What it does not know: how it is transported, verified or applied (`gateway/snapshot.py`), or
stored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from foundry.types.cache import CachePolicy
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.guardrails import BlockRule, GuardrailProfile
from foundry.types.limits import LimitEntry
from foundry.types.money import Price
from foundry.types.routing import Routing


class SnapshotModel(BaseModel):
    """Base of the snapshot's parts: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KeyEntry(SnapshotModel):
    """One live virtual key. The key itself is nowhere: only its keyed hash."""

    key_id: str
    key_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hex HMAC-SHA256 of the key under the instance's pepper; see `foundry.gateway.keys`."""
    organization_id: str
    project_id: str
    scopes: tuple[str, ...]
    """`inference` lets it call models; a key without it is refused with 403 by the gateway."""
    allowed_routes: tuple[str, ...] | None = None
    """Route names it may call; None: all of its project's."""
    expires_at: datetime | None = None
    guardrails: tuple[str, ...] = ()
    """Profiles that hold for all its requests, besides the route's own."""


class Target(SnapshotModel):
    """What every kind of target has."""

    target_id: str
    """Stable id, e.g. "engine/smollm2", "engine/smollm2/ADAPTER" or "openai/gpt-4o-mini": it goes into usage records and headers."""
    model: str
    """The name that the engine or the vendor knows the model by."""
    price: Price | None = None
    weight: float = Field(default=1.0, ge=0)
    """Share among the targets, for the policies that share."""
    max_concurrency: int | None = Field(default=None, ge=1)
    """Most requests in flight from one replica of the gateway; None: no cap."""
    canary_percent: float | None = Field(default=None, ge=0, le=100)
    """This share of requests tries this target first, whatever the policy says; it takes no others while primaries are up."""
    shadow_percent: float | None = Field(default=None, ge=0, le=100)
    """This share of requests is also sent here; the answer is measured, recorded as `shadow` and thrown away."""


class EngineTarget(Target):
    """An own deployment behind a route."""

    kind: Literal["engine"] = "engine"
    deployment: str
    base_url: str
    """Root of the engine's OpenAI-compatible surface without a trailing slash, e.g.
    "http://127.0.0.1:8000/engines/x"."""
    phase: DeploymentPhase
    phase_detail: str = ""
    eta_s: float | None = None
    """Seconds until ready, when it can be known: becomes `Retry-After`."""


class ProviderTarget(Target):
    """A vendor model behind a route. The secret is not in the snapshot: the gateway reads it from its
    environment."""

    kind: Literal["provider"] = "provider"
    provider: str
    """Row of `providers/vendors.toml`, or one of the operator's own."""
    base_url: str | None = None
    """Overrides the row's URL (a proxy, a private endpoint)."""


class RouteEntry(SnapshotModel):
    """A public model name and its targets, in order of preference."""

    name: str
    task: Task
    targets: tuple[EngineTarget | ProviderTarget, ...] = Field(min_length=1)
    created_at: datetime
    owned_by: str = "foundry"
    project_ids: tuple[str, ...] | None = None
    """Projects that may see it; None: every project of the instance."""
    routing: Routing = Routing()
    guardrails: tuple[str, ...] = ()
    """Names of profiles."""
    cache: CachePolicy | None = None


class Snapshot(SnapshotModel):
    """The gateway's whole configuration at one version."""

    schema_version: Literal[1] = 1
    cluster: str
    version: int = Field(ge=1)
    """Strictly increasing per cluster; a gateway refuses to go back."""
    issued_at: datetime
    keys: tuple[KeyEntry, ...]
    routes: tuple[RouteEntry, ...]
    limits: tuple[LimitEntry, ...] = ()
    guardrails: tuple[GuardrailProfile, ...] = ()
    blocks: tuple[BlockRule, ...] = ()
    providers: dict[str, dict[str, JsonValue]] = Field(default_factory=dict[str, dict[str, JsonValue]])
    """The operator's rows, by name: each some or all fields of a vendor's row, laid over the shipped one of that name."""


class SignedSnapshot(SnapshotModel):
    """What travels and what lies on disk: the exact bytes that were signed, and the signature over them."""

    payload: str
    """`Snapshot` as JSON text; the signature is over its UTF-8 bytes, so it is never re-serialised."""
    signature: str
    """Base64 Ed25519 signature of the payload."""
    key_id: str
    """First 16 hex digits of SHA-256 of the raw public key that verifies it."""
