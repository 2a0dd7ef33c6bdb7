"""Guardrail profiles and blocking rules as data. What it does not know: how a guard works (`gateway/guardrails`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Stage = Literal["input", "output", "stream"]
"""input: what the caller sends. output: a whole answer. stream: a window over a streamed one, before it goes out."""
Action = Literal["block", "redact", "flag"]


class GuardModel(BaseModel):
    """Base: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GuardEntry(GuardModel):
    """One guard of a profile."""

    kind: str
    """Name in the registry `foundry.gateway.guardrails.GUARDS`, e.g. "pii", "secrets", "regex"."""
    stages: tuple[Stage, ...] = ("input",)
    action: Action = "block"
    on_error: Literal["open", "closed"] = "closed"
    """A guard that fails or runs out of time: open lets the request pass, closed refuses it. Both are recorded."""
    timeout_s: float = Field(default=2.0, gt=0)
    threshold: float = Field(default=0.5, ge=0, le=1)
    """Scores at or above it act."""
    options: dict[str, JsonValue] = {}
    """Of this kind; checked by the kind's own model when the profile is made."""


class GuardrailProfile(GuardModel):
    """A named set of guards, attached to routes, keys or projects; all of a stage run in parallel."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
    guards: tuple[GuardEntry, ...]
    stream_window_chars: int = Field(default=200, ge=1)
    """How much of a stream is held back so that a finding across chunks is seen before it goes out."""


class BlockRule(GuardModel):
    """Refuses callers with 403 before anything else. All conditions given must match."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
    cidrs: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    """ISO 3166 codes; needs the setting `gateway.country_database` (a MaxMind file)."""
    user_agent: str | None = None
    """A regular expression in RE2's syntax (linear time: callers choose what it is matched with), found anywhere."""
    routes: tuple[str, ...] | None = None
    """None: every route, and everything else that the gateway answers."""
    allow: bool = False
    """True turns it round: callers that do not match are refused."""
