"""The usage record: one per request, whatever its outcome; the platform's unit of account.

It is made on the hot path, so it is a `msgspec.Struct` (about a microsecond to build and encode; decision
0002), unlike the configuration contracts, which are pydantic. What it does not know: where it is stored
(`metrics/`).
"""

from __future__ import annotations

import operator
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

Outcome = Literal["completed", "aborted", "failed", "rejected", "blocked"]
"""completed: answered in full. aborted: the client went away. failed: the upstream failed or refused. rejected: refused
before any upstream was asked (bad key, bad body, unknown model, not ready, a guard refused the request). blocked: an upstream
answered, and a guard refused the answer or could not be asked about it; what was generated is billed."""

UsageSource = Literal["reported", "partial", "estimated", "none"]
"""reported: the upstream's final count. partial: its own running count at the moment the stream ended early. estimated: counted
by us in whole or in part, because the upstream told nothing, or not its output (Anthropic tells its input at the start and its
output at the end: of a stream that was cut, the output is ours). none: nothing was generated."""

PriceStatus = Literal["priced", "unknown", "free"]
"""priced: `cost_usd` is exact for these tokens. unknown: tokens were used and no price is known (`cost_usd`
is None). free: nothing was used, the cost is zero."""


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one request used and cost. Field names are the columns of the ClickHouse table `usage`, whose defaults are the same:
    a record is written without them."""

    id: str
    """Unique; writing a record twice under one id is harmless."""
    received_at: datetime
    """When the gateway had the request's head; UTC, microseconds."""
    request_id: str
    """Told to the client as `x-request-id` and to the engine."""
    cluster: str
    gateway: str
    """Replica that served it."""
    organization_id: str = ""
    project_id: str = ""
    key_id: str = ""
    route: str = ""
    """Public model name asked for; empty when the request never got that far."""
    target_id: str = ""
    provider: str = ""
    deployment: str = ""
    model: str = ""
    """The name that the target knows the model by."""
    protocol: str = ""
    """Codec: `chat`, `completions`, `embeddings`, `models`."""
    streamed: bool = False
    outcome: Outcome
    status: int
    """HTTP status that the client was sent (499 when it left before one was sent)."""
    error_code: str = ""
    input_tokens: int = 0
    """All input tokens, the cached ones included (as OpenAI counts `prompt_tokens`)."""
    cached_input_tokens: int = 0
    """Of `input_tokens`, those read from a prompt cache."""
    output_tokens: int = 0
    """All output tokens, the reasoning ones included (as OpenAI counts `completion_tokens`)."""
    reasoning_tokens: int = 0
    """Of `output_tokens`, those spent on reasoning."""
    cache_write_tokens: int = 0
    """Of `input_tokens`, those written to a prompt cache (Anthropic charges them at a rate of their own)."""
    audio_input_tokens: int = 0
    """Of `input_tokens`, those that are sound."""
    image_input_tokens: int = 0
    """Of `input_tokens`, those that are images."""
    audio_output_tokens: int = 0
    """Of `output_tokens`, those that are sound."""
    image_output_tokens: int = 0
    """Of `output_tokens`, those that are images."""
    images: int = 0
    """Images made, counted only where the target charges by the image."""
    audio_ms: int = 0
    """Milliseconds of sound transcribed or translated, where the target charges by time."""
    characters: int = 0
    """Characters of text spoken, where the target charges by the character."""
    searches: int = 0
    """Search units of a reranker."""
    usage_source: UsageSource = "none"
    cost_usd: Decimal | None = None
    price_id: str = ""
    price_status: PriceStatus = "free"
    ttft_ms: float | None = None
    """Request received to first content token; None when not streamed or none came."""
    tpot_ms: float | None = None
    """Mean time per output token after the first; None with fewer than two."""
    e2e_ms: float
    """Request received to last byte handed to the server."""
    upstream_ms: float | None = None
    """Of `e2e_ms`, from the upstream request's start to its first byte."""
    request_bytes: int = 0
    response_bytes: int = 0
    user: str = ""
    """The end user that the caller named."""
    policy: str = ""
    """Routing policy that ordered the targets."""
    queue_ms: float = 0.0
    """Of `e2e_ms`, spent waiting for a target with room, or for one to become ready."""
    attempts: str = ""
    """JSON array of `AttemptRecord` when there was more than one; the counts and the cost above are their sums."""
    shadow: bool = False
    """A copy of a request, sent to a shadow target; nobody was answered with it."""
    cache: str = ""
    """`hit`, `semantic`, `miss` or `bypass`; empty where the route has no cache."""
    guardrails: str = ""
    """JSON array of what guards decided; never the text itself."""
    batch_id: str = ""


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One try at one target, inside `UsageRecord.attempts`."""

    target_id: str
    outcome: Outcome
    error_code: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    usage_source: UsageSource = "none"
    cost_usd: Decimal | None = None
    """None: price unknown."""
    price_id: str = ""
    upstream_ms: float | None = None
    """From the attempt's start to its first byte; None when none came."""
    hedged: bool = False
    """Started beside another attempt that was slow to begin."""
    status: int = 0
    """HTTP status that the target answered with; 0 when it did not."""
    route: str = ""
    """The route that named the target, where that is a fallback of the one asked for."""


class UsageCounts(msgspec.Struct, frozen=True):
    """What one request used, by kind; same definitions as in `UsageRecord`. Tokens of the special kinds do not overlap."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    audio_input_tokens: int = 0
    image_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    images: int = 0
    audio_ms: int = 0
    characters: int = 0
    searches: int = 0

    def __add__(self, other: UsageCounts) -> UsageCounts:
        """Both together: the sum over the attempts of one request."""
        return UsageCounts(*map(operator.add, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))
