"""The answer cache of a route, as data. What it does not know: where answers are kept (`gateway/cache`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SemanticCache(BaseModel):
    """Also answer from a question that means the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_route: str
    """A route of task `embed`; its calls are metered like any other, on the caller's key."""
    threshold: float = Field(default=0.95, gt=0, le=1)
    """Least cosine similarity of the last user message; all else of the request must be equal."""


class CachePolicy(BaseModel):
    """Exact-match cache over model, messages and parameters, within one tenant (project)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttl_s: float = Field(default=3600.0, gt=0)
    backend: Literal["memory", "valkey"] = "memory"
    """memory: per replica of the gateway. valkey: shared, at the setting `gateway.valkey_url`."""
    bill_hits: Literal["free", "full"] = "free"
    """What a hit costs the caller; either way the record says `cache = "hit"`."""
    only_deterministic: bool = False
    """Only requests with temperature 0 or a seed are looked up and kept."""
    semantic: SemanticCache | None = None
