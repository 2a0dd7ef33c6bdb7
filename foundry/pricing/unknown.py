"""Requests whose cost could not be told, counted by target and told once.

The usage record of such a request says `price_unknown`; this is what makes somebody look: a warning per target and process in
the log, and counters for health pages and metrics. What it does not know: who shows them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)


class UnknownPrices:
    """One per process."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()

    def note(self, target_id: str, why: str) -> None:
        """One more request to a target was settled without a cost; `why` is PriceUnknown's message."""
        self._requests[target_id] += 1
        if self._requests[target_id] == 1:
            log.warning(
                "price_unknown", target=target_id, why=why, next="set a price on the target or in [[prices]]"
            )

    @property
    def total(self) -> int:
        """Requests so far."""
        return self._requests.total()

    def by_target(self) -> Mapping[str, int]:
        """Requests so far, by target id."""
        return dict(self._requests)
