"""One request on its way through the lifecycle: what is known of it so far, its attempts, and its usage record at the end.

What it does not know: who moves it on (`lifecycle.py`), wire formats, I/O.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from foundry.errors import FoundryError, PriceUnknown
from foundry.gateway.guardrails.decisions import Decisions
from foundry.gateway.limits.limiter import Reservation, Use
from foundry.gateway.upstream import Upstream
from foundry.pricing.cost import cost_usd_of
from foundry.telemetry import new_id
from foundry.types.snapshot import KeyEntry
from foundry.types.usage import AttemptRecord, Outcome, PriceStatus, UsageCounts, UsageRecord, UsageSource

if TYPE_CHECKING:
    from foundry.gateway.guardrails.compiled import Guarding
    from foundry.gateway.progress import OpenStream

_NO_USE = UsageCounts()
_ZERO = Decimal(0)
_DOUBT: dict[UsageSource, int] = {"none": 0, "reported": 1, "partial": 2, "estimated": 3}
_CLIENT_CLOSED = 499
"""nginx's status for a caller that left before it was answered."""
_encoder = msgspec.json.Encoder(decimal_format="string")


class CallerGone(Exception):
    """The caller closed the connection before its request was whole."""


class Attempt:
    """One try at one target, with its own counts and its own bill."""

    __slots__ = (
        "answered", "cost_usd", "counts", "error_code", "first_byte_ns", "hedged", "opened_ns", "outcome", "route", "status", "upstream",
        "usage_source",
    )  # fmt: skip

    def __init__(self, upstream: Upstream, route: str = "", *, hedged: bool = False) -> None:
        self.upstream = upstream
        self.route = route
        """The fallback that named the target; empty: the route asked for."""
        self.hedged = hedged
        self.status = 0
        self.opened_ns = time.perf_counter_ns()
        self.first_byte_ns = 0
        self.answered = False
        """The target answered 200, so a price per request is due."""
        self.outcome: Outcome = "aborted"
        self.error_code = ""
        self.counts = _NO_USE
        self.usage_source: UsageSource = "none"
        self.cost_usd: Decimal | None = _ZERO
        """Known once the record is made."""

    def fail(self, error: FoundryError) -> None:
        """Remember why it failed."""
        self.outcome, self.error_code = "failed", error.code

    def count(self, counts: UsageCounts, source: UsageSource) -> None:
        """Remember what was used and how we know."""
        self.counts, self.usage_source = counts, source

    @property
    def upstream_ms(self) -> float | None:
        """From its start to its first byte."""
        return (self.first_byte_ns - self.opened_ns) / 1e6 if self.first_byte_ns else None

    def bill(self) -> tuple[Decimal | None, str, PriceStatus]:
        """Cost, price id and how far the price is known."""
        price = self.upstream.price
        if self.counts == _NO_USE and not (self.answered and price is not None and price.per_request_usd):
            return _ZERO, "", "free"
        try:
            return cost_usd_of(price, self.counts), price.price_id if price else "", "priced"
        except PriceUnknown:
            return None, price.price_id if price else "", "unknown"

    def record(self) -> AttemptRecord:
        """Its line in the usage record."""
        cost, price_id, _ = self.bill()
        return AttemptRecord(
            target_id=self.upstream.target_id,
            outcome=self.outcome,
            error_code=self.error_code,
            input_tokens=self.counts.input_tokens,
            output_tokens=self.counts.output_tokens,
            usage_source=self.usage_source,
            cost_usd=cost,
            price_id=price_id,
            upstream_ms=self.upstream_ms,
            hedged=self.hedged,
            status=self.status,
            route=self.route,
        )


class Exchange:
    """Mutable while the request runs; `record` makes the immutable end of it."""

    __slots__ = (
        "_received_ns", "acting_for", "answer_id", "attempts", "batch_id", "cache", "cost_usd", "decisions", "error_code",
        "estimated", "fallback", "first_token_ns", "for_guard", "guard", "head_sent", "key", "last_token_ns", "opened", "outcome",
        "policy", "protocol", "queue_ms", "received_at", "record_id", "request_bytes", "request_id", "reservation", "response_bytes",
        "route", "settled", "shadow", "status", "streamed", "user",
    )  # fmt: skip

    def __init__(self, protocol: str, request_id: str | None) -> None:
        self._received_ns = time.perf_counter_ns()
        self.received_at = datetime.now(UTC)
        self.request_id = request_id or new_id("req")
        self.protocol = protocol
        self.acting_for = self.answer_id = ""
        """The hash of the key that the gateway itself acts for (`inner.py`), and the id that was given out for the answer (a
        response in the background); empty for requests from outside."""
        self.for_guard = False
        """A guard asks: the operator's profile chose the route, so the key need not see it, and nothing is guarded again."""
        self.key: KeyEntry | None = None
        self.route = self.user = self.policy = self.cache = self.batch_id = ""
        self.fallback = ""
        """The route that answers in place of the one asked for."""
        self.attempts: list[Attempt] = []
        self.decisions: Decisions | None = None
        self.guard: Guarding | None = None  # None: nothing is guarded
        self.reservation: Reservation | None = None
        self.opened: OpenStream | None = None  # a stream that has begun
        self.record_id = ""
        """Of its usage record; given when the record is made, or first drafted."""
        self.streamed = self.settled = self.shadow = False
        self.head_sent = False
        """The head of a stream has gone out: what follows, errors too, are events."""
        self.status = _CLIENT_CLOSED  # until an answer begins
        self.outcome: Outcome | None = None
        self.error_code = ""
        self.estimated: UsageCounts | None = None  # `Call.estimated`
        self.cost_usd: Decimal | None = None
        self.first_token_ns = self.last_token_ns = 0
        self.queue_ms = 0.0
        self.request_bytes = self.response_bytes = 0

    @property
    def attempt(self) -> Attempt | None:
        """The one that answers, or the last one tried."""
        return self.attempts[-1] if self.attempts else None

    def begin(self, upstream: Upstream, *, hedged: bool = False) -> Attempt:
        """Start to ask a target."""
        attempt = Attempt(upstream, self.fallback, hedged=hedged)
        self.attempts.append(attempt)
        return attempt

    def answered_by(self, attempt: Attempt) -> None:
        """Of several that ran side by side, this one answers: it goes last."""
        if self.attempts[-1] is not attempt:
            self.attempts.remove(attempt)
            self.attempts.append(attempt)

    def fail(self, error: FoundryError) -> None:
        """Remember why: `rejected` if no upstream was asked, else `failed`."""
        self.error_code = error.code
        self.outcome = "failed" if self.attempts else "rejected"

    def counts(self) -> UsageCounts:
        """What was used in all attempts together."""
        attempts = self.attempts
        if not attempts:
            return _NO_USE
        total = attempts[0].counts
        for attempt in attempts[1:]:
            total += attempt.counts
        return total

    def settle_limits(self) -> None:
        """Put the truth in place of what limits and budgets had reserved; after `record`, which knows the costs."""
        if self.reservation is not None:
            self.reservation.settle(
                *(Use(attempt.counts, attempt.cost_usd, attempt.upstream.model) for attempt in self.attempts)
            )

    def record(self, *, cluster: str, gateway: str) -> UsageRecord:
        """The usage record of this request, priced, with every duration taken now."""
        now_ns = time.perf_counter_ns()
        cost, price_id, price_status = self._bill()
        self.cost_usd = cost
        key, attempt, counts = self.key, self.attempt, self.counts()
        upstream = attempt.upstream if attempt else None
        return UsageRecord(
            id=self.record_id or new_id("use"),
            received_at=self.received_at,
            request_id=self.request_id,
            cluster=cluster,
            gateway=gateway,
            organization_id=key.organization_id if key else "",
            project_id=key.project_id if key else "",
            key_id=key.key_id if key else "",
            route=self.route,
            target_id=upstream.target_id if upstream else "",
            provider=upstream.provider if upstream else "",
            deployment=upstream.deployment if upstream else "",
            model=upstream.model if upstream else "",
            protocol=self.protocol,
            streamed=self.streamed,
            outcome=self.outcome or "aborted",
            status=self.status,
            error_code=self.error_code,
            input_tokens=counts.input_tokens,
            cached_input_tokens=counts.cached_input_tokens,
            output_tokens=counts.output_tokens,
            reasoning_tokens=counts.reasoning_tokens,
            cache_write_tokens=counts.cache_write_tokens,
            audio_input_tokens=counts.audio_input_tokens,
            image_input_tokens=counts.image_input_tokens,
            audio_output_tokens=counts.audio_output_tokens,
            image_output_tokens=counts.image_output_tokens,
            images=counts.images,
            audio_ms=counts.audio_ms,
            characters=counts.characters,
            searches=counts.searches,
            usage_source=self._usage_source(),
            cost_usd=cost,
            price_id=price_id,
            price_status=price_status,
            ttft_ms=self._since_ms(self.first_token_ns),
            tpot_ms=self._tpot_ms(counts.output_tokens),
            e2e_ms=(now_ns - self._received_ns) / 1e6,
            upstream_ms=attempt.upstream_ms if attempt else None,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            user=self.user,
            policy=self.policy,
            queue_ms=self.queue_ms,
            attempts=self._attempts_json(),
            shadow=self.shadow,
            cache=self.cache,
            guardrails=self.decisions.json() if self.decisions is not None else "",
            batch_id=self.batch_id,
        )

    def _bill(self) -> tuple[Decimal | None, str, PriceStatus]:
        """All attempts together: unknown as soon as one of them is; the price id is that of the last one that cost."""
        total, price_id, status = _ZERO, "", "free"
        unknown = False
        for attempt in self.attempts:
            cost, attempt_price_id, attempt_status = attempt.bill()
            attempt.cost_usd = cost
            if attempt_status == "free":
                continue
            price_id, status = attempt_price_id, "priced"
            if cost is None:
                unknown = True
            else:
                total += cost
        if unknown:
            return None, price_id, "unknown"
        return total, price_id, "priced" if status == "priced" else "free"

    def _usage_source(self) -> UsageSource:
        """Of all attempts, the least certain."""
        attempts = self.attempts
        if len(attempts) == 1:
            return attempts[0].usage_source
        worst: UsageSource = "none"
        for attempt in attempts:
            if _DOUBT[attempt.usage_source] > _DOUBT[worst]:
                worst = attempt.usage_source
        return worst

    def _attempts_json(self) -> str:
        if len(self.attempts) < 2:
            return ""
        return _encoder.encode([attempt.record() for attempt in self.attempts]).decode()

    def _since_ms(self, moment_ns: int) -> float | None:
        return (moment_ns - self._received_ns) / 1e6 if moment_ns else None

    def _tpot_ms(self, output_tokens: int) -> float | None:
        if output_tokens < 2 or not self.first_token_ns:
            return None
        return (self.last_token_ns - self.first_token_ns) / 1e6 / (output_tokens - 1)
