"""What `/healthz` says of one gateway replica: that it serves, from which configuration, and what an operator should look at.

It is open, so it counts and names no route, target or tenant: the log does. What it does not know: HTTP.
"""

from __future__ import annotations

import msgspec

from foundry.gateway.cache.answers import AnswerCache
from foundry.gateway.delivery import Delivery
from foundry.gateway.snapshot import SnapshotStore
from foundry.metrics.spool import Spool
from foundry.metrics.writer import Shipper

_OK, _UNAVAILABLE = 200, 503
_encoder = msgspec.json.Encoder()


class Health:
    """One per gateway replica."""

    def __init__(
        self,
        snapshots: SnapshotStore,
        spool: Spool,
        shipper: Shipper,
        delivery: Delivery,
        cache: AnswerCache,
    ) -> None:
        self._snapshots = snapshots
        self._spool = spool
        self._shipper = shipper
        self._delivery = delivery
        self._cache = cache

    def report(self) -> tuple[int, bytes]:
        """Status and JSON body. 503 until there is a configuration to serve from."""
        snapshots = self._snapshots
        applied, unknown = snapshots.applied_at, self._delivery.unknown_prices
        told: dict[str, object] = {
            "status": "ok" if snapshots.version else "waiting for the first snapshot",
            "snapshot_version": snapshots.version,
            "snapshot_applied_at": applied.isoformat() if applied else None,
            "spooled_bytes": self._spool.used_bytes,
            "usage_lag_s": round(self._shipper.lag.oldest_age_s, 3),
            "unknown_prices": {"requests": unknown.total, "targets": len(unknown.by_target())},
            "warnings": self._warnings(),
        }
        return _OK if snapshots.version else _UNAVAILABLE, _encoder.encode(told)

    def _warnings(self) -> list[str]:
        warnings: list[str] = []
        if self._snapshots.version:
            alone = self._cache.without_valkey(self._snapshots.current())
            if alone:
                warnings.append(
                    f"{alone} route(s) want their answer cache in Valkey and gateway.valkey_url is not set: "
                    "each replica keeps its own"
                )
        if targets := len(self._delivery.unknown_prices.by_target()):
            warnings.append(
                f"requests to {targets} target(s) were settled without a cost: set a price; the log names them"
            )
        return warnings
