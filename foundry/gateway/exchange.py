"""One request on its way through the lifecycle: what is known of it so far, and its usage record at the end.

What it does not know: who moves it on (`lifecycle.py`), wire formats, I/O.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal

from foundry.errors import FoundryError, PriceUnknown
from foundry.gateway.upstream import Upstream
from foundry.pricing.cost import cost_usd_of
from foundry.telemetry import new_id
from foundry.types.snapshot import KeyEntry
from foundry.types.usage import Outcome, PriceStatus, UsageCounts, UsageRecord, UsageSource

_NO_TOKENS = UsageCounts()
_CLIENT_CLOSED = 499
"""nginx's status for a caller that left before it was answered."""


class CallerGone(Exception):
    """The caller closed the connection before its request was whole."""


class Exchange:
    """Mutable while the request runs; `record` makes the immutable end of it."""

    __slots__ = (
        "_received_ns", "cost_usd", "counts", "error_code", "first_token_ns", "key", "last_token_ns",
        "opened_ns", "outcome", "protocol", "received_at", "request_bytes", "request_id", "response_bytes",
        "route", "settled", "status", "streamed", "upstream", "upstream_first_ns", "usage_source",
    )  # fmt: skip

    def __init__(self, protocol: str, request_id: str | None) -> None:
        self._received_ns = time.perf_counter_ns()
        self.received_at = datetime.now(UTC)
        self.request_id = request_id or new_id("req")
        self.protocol = protocol
        self.key: KeyEntry | None = None
        self.route = ""
        self.upstream: Upstream | None = None
        self.streamed = False
        self.settled = False
        self.status = _CLIENT_CLOSED  # until an answer begins
        self.outcome: Outcome | None = None
        self.error_code = ""
        self.counts = _NO_TOKENS
        self.usage_source: UsageSource = "none"
        self.cost_usd: Decimal | None = None
        self.opened_ns = self.upstream_first_ns = self.first_token_ns = self.last_token_ns = 0
        self.request_bytes = self.response_bytes = 0

    def fail(self, error: FoundryError) -> None:
        """Remember why: `rejected` if no upstream was asked, else `failed`."""
        self.error_code = error.code
        self.outcome = "failed" if self.opened_ns else "rejected"

    def count(self, counts: UsageCounts, source: UsageSource) -> None:
        """Remember what was used and how we know."""
        self.counts = counts
        self.usage_source = source

    def record(self, *, cluster: str, gateway: str) -> UsageRecord:
        """The usage record of this request, priced, with every duration taken now."""
        now_ns = time.perf_counter_ns()
        cost, price_id, price_status = self._price()
        self.cost_usd = cost
        key, upstream = self.key, self.upstream
        return UsageRecord(
            id=new_id("use"),
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
            input_tokens=self.counts.input_tokens,
            cached_input_tokens=self.counts.cached_input_tokens,
            output_tokens=self.counts.output_tokens,
            reasoning_tokens=self.counts.reasoning_tokens,
            usage_source=self.usage_source,
            cost_usd=cost,
            price_id=price_id,
            price_status=price_status,
            ttft_ms=self._since_ms(self.first_token_ns),
            tpot_ms=self._tpot_ms(),
            e2e_ms=(now_ns - self._received_ns) / 1e6,
            upstream_ms=(self.upstream_first_ns - self.opened_ns) / 1e6 if self.upstream_first_ns else None,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
        )

    def _price(self) -> tuple[Decimal | None, str, PriceStatus]:
        if self.upstream is None or self.counts == _NO_TOKENS:
            return Decimal(0), "", "free"
        try:
            cost = cost_usd_of(self.upstream.price, self.counts)
        except PriceUnknown:
            return None, "", "unknown"
        return cost, self.upstream.price.price_id if self.upstream.price else "", "priced"

    def _since_ms(self, moment_ns: int) -> float | None:
        return (moment_ns - self._received_ns) / 1e6 if moment_ns else None

    def _tpot_ms(self) -> float | None:
        gaps = self.counts.output_tokens - 1
        if gaps < 1 or not self.first_token_ns:
            return None
        return (self.last_token_ns - self.first_token_ns) / 1e6 / gaps
