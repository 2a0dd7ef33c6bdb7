"""The snapshot: everything a gateway needs to serve, in one immutable, versioned, signed document.

The control API builds and signs it, gateways pull it and keep the last one on disk (ARCHITECTURE.md,
decision 2). What it does not know: how it is transported, verified or applied (`gateway/snapshot.py`), or
stored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.money import TokenPrice


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


class EngineTarget(SnapshotModel):
    """An own deployment behind a route."""

    kind: Literal["engine"] = "engine"
    target_id: str
    """Stable id, e.g. "engine/smollm2": it goes into usage records and headers."""
    deployment: str
    base_url: str
    """Root of the engine's OpenAI-compatible surface without a trailing slash, e.g.
    "http://127.0.0.1:8000/engines/x"."""
    model: str
    """The name that the engine answers to."""
    phase: DeploymentPhase
    phase_detail: str = ""
    eta_s: float | None = None
    """Seconds until ready, when it can be known: becomes `Retry-After`."""
    price: TokenPrice | None = None


class ProviderTarget(SnapshotModel):
    """A vendor model behind a route. The secret is not in the snapshot: the gateway reads it from its
    environment."""

    kind: Literal["provider"] = "provider"
    target_id: str
    """Stable id, e.g. "openai/gpt-4o-mini"."""
    provider: str
    """Row of `providers/vendors.toml`."""
    model: str
    """The vendor's name of the model."""
    base_url: str | None = None
    """Overrides the row's URL (a proxy, a private endpoint)."""
    price: TokenPrice | None = None


class RouteEntry(SnapshotModel):
    """A public model name and its targets, in order of preference."""

    name: str
    task: Task
    targets: tuple[EngineTarget | ProviderTarget, ...] = Field(min_length=1)
    created_at: datetime
    owned_by: str = "foundry"
    project_ids: tuple[str, ...] | None = None
    """Projects that may see it; None: every project of the instance."""


class Snapshot(SnapshotModel):
    """The gateway's whole configuration at one version."""

    schema_version: Literal[1] = 1
    cluster: str
    version: int = Field(ge=1)
    """Strictly increasing per cluster; a gateway refuses to go back."""
    issued_at: datetime
    keys: tuple[KeyEntry, ...]
    routes: tuple[RouteEntry, ...]


class SignedSnapshot(SnapshotModel):
    """What travels and what lies on disk: the exact bytes that were signed, and the signature over them."""

    payload: str
    """`Snapshot` as JSON text; the signature is over its UTF-8 bytes, so it is never re-serialised."""
    signature: str
    """Base64 Ed25519 signature of the payload."""
    key_id: str
    """First 16 hex digits of SHA-256 of the raw public key that verifies it."""
