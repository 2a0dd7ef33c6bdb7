"""How a route chooses among its targets, and what it does when one fails. What it does not know: who carries it out (`gateway/routing`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Policy = Literal["priority", "weighted", "least_loaded", "lowest_ttft", "cheapest", "prefix"]
"""priority: in order. weighted: at random by weight. least_loaded: fewest in flight and queued per unit of weight.
lowest_ttft: lowest measured time to first token. cheapest: lowest price for this request's estimated tokens. prefix: by
consistent hash of the request's beginning, so that equal prefixes meet warm caches. All order every target: the first one
that is healthy and has room serves, the others are its fallbacks."""


class RoutingModel(BaseModel):
    """Base: frozen (and so hashable), and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Retries(RoutingModel):
    """Tries after the first one, on the same and on the other targets, before the first byte went out."""

    attempts: int = Field(default=2, ge=0, le=10)
    """All of them together, per request and route."""
    base_ms: float = Field(default=50.0, ge=0)
    """Full jitter: the wait before try n is uniform in 0 .. min(max_ms, base_ms x 2^n)."""
    max_ms: float = Field(default=2_000.0, ge=0)
    budget_ratio: float = Field(default=0.2, ge=0, le=1)
    """Second tries of one target may be at most this share of a replica's requests to the route over ten seconds (and always
    three). A target that a request has not tried yet costs nothing: breakers bound that load."""


class Timeouts(RoutingModel):
    """None: the gateway's setting."""

    connect_s: float | None = Field(default=None, gt=0)
    first_byte_s: float | None = Field(default=None, gt=0)
    """Per try: from its start to the first byte of a stream, or the head of a whole answer."""
    between_chunks_s: float | None = Field(default=None, gt=0)
    total_s: float | None = Field(default=None, gt=0)
    """From the moment at which the route is asked to the last byte: tries, queueing and fallbacks together. None: no bound."""


class Health(RoutingModel):
    """When a target is taken out (circuit breaker), and how it comes back."""

    window_s: float = Field(default=30.0, gt=0)
    min_requests: int = Field(default=5, ge=1)
    max_error_rate: float = Field(default=0.5, gt=0, le=1)
    max_p95_ttft_ms: float | None = Field(default=None, gt=0)
    """Slower than this over the window counts as unhealthy too."""
    open_s: float = Field(default=10.0, gt=0)
    """How long the breaker stays open; doubles with each failed half-open trial, at most ten times as long."""
    half_open_requests: int = Field(default=1, ge=1)
    probe_interval_s: float | None = Field(default=None, gt=0)
    """Active probe of a target that is out (`GET /v1/models` or the engine's `/health`); None: passive only."""


class Queue(RoutingModel):
    """Where requests wait when every target is at its cap."""

    max_waiting: int = Field(default=256, ge=0)
    """Per replica of the gateway; more are refused with 503."""
    deadline_s: float = Field(default=30.0, gt=0)


class Hedge(RoutingModel):
    """Ask a second target when the first has not begun to answer in time; the first byte wins, the other is closed and billed."""

    after_ms: float = Field(gt=0)
    max_share: float = Field(default=0.05, gt=0, le=1)
    """At most this share of the route's requests are hedged."""


class Hold(RoutingModel):
    """What happens to requests while no target is ready because it is starting or scaled to zero."""

    max_waiting: int = Field(default=100, ge=0)
    """0: answer 503 with Retry-After at once."""
    deadline_s: float = Field(default=120.0, gt=0)
    overflow_route: str | None = None
    """Ask this route instead of waiting."""


class Routing(RoutingModel):
    """All of a route's choices."""

    policy: Policy = "priority"
    retries: Retries = Retries()
    timeouts: Timeouts = Timeouts()
    health: Health = Health()
    queue: Queue = Queue()
    hold: Hold = Hold()
    hedge: Hedge | None = None
    fallbacks: tuple[str, ...] = ()
    """Further routes, asked in order when every target here failed before the first byte."""
    midstream: Literal["fail", "continue"] = "fail"
    """After the first byte. fail: a terminal error event. continue: the next target goes on from what was said so far,
    where the protocol allows it (plain text of one choice)."""
