"""The gateway's configuration: pulled, verified, applied at once, kept on disk.

`SnapshotStore` holds the current `Index` (lookups made from the snapshot) and the last good document on
disk, so that a gateway that starts while the control API is down serves as before. `pull` long-polls for
newer ones. Refused: a wrong signature, an older version. What it does not know: requests.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from foundry.errors import ConfigurationError, FoundryError, SnapshotMissing
from foundry.gateway.blocks import Blocks, Countries
from foundry.gateway.cache.keys import CacheRule
from foundry.gateway.guardrails.compiled import Guards
from foundry.gateway.guardrails.workers import Workers
from foundry.gateway.limits.rules import LimitRules
from foundry.gateway.signing import SnapshotRejected, verify
from foundry.gateway.stand_ins import with_stand_ins
from foundry.gateway.upstream import Upstream
from foundry.providers.vendors import Vendor, merged
from foundry.types.snapshot import KeyEntry, RouteEntry, SignedSnapshot, Snapshot

log = structlog.get_logger()

_BACKOFF_S = (0.2, 15.0)
"""First and largest wait after a failed pull; full jitter."""


class Route:
    """A route with its targets made callable."""

    __slots__ = ("cache", "entry", "guardrails", "upstreams")

    def __init__(
        self,
        entry: RouteEntry,
        engine_token: str,
        vendors: Mapping[str, Vendor] | None,
        routes: Mapping[str, RouteEntry],
    ) -> None:
        self.entry = entry
        self.guardrails = tuple(name for other in with_stand_ins(entry, routes) for name in other.guardrails)
        """Profiles of the route, and of every route that may answer in its place."""
        self.cache = CacheRule.of(entry)
        self.upstreams = tuple(
            Upstream(target, engine_token=engine_token, vendors=vendors) for target in entry.targets
        )

    def visible_to(self, key: KeyEntry) -> bool:
        """Whether this key may know that the route exists."""
        if key.allowed_routes is not None and self.entry.name not in key.allowed_routes:
            return False
        return self.entry.project_ids is None or key.project_id in self.entry.project_ids


class Index:
    """One snapshot as lookups. Immutable once made; swapped whole."""

    __slots__ = ("blocks", "expiries", "guards", "keys", "limits", "routes", "version")

    def __init__(
        self, snapshot: Snapshot, engine_token: str, workers: Workers, countries: Countries | None
    ) -> None:
        self.version = snapshot.version
        self.blocks = Blocks(snapshot.blocks, countries)
        self.guards = Guards(snapshot.guardrails, workers)
        self.limits = LimitRules(snapshot)
        self.keys = {entry.key_hash: entry for entry in snapshot.keys}
        self.expiries = {
            entry.key_id: entry.expires_at.timestamp() for entry in snapshot.keys if entry.expires_at
        }
        vendors = _vendors(snapshot)
        entries = {entry.name: entry for entry in snapshot.routes}
        self.routes = {entry.name: Route(entry, engine_token, vendors, entries) for entry in snapshot.routes}


def _vendors(snapshot: Snapshot) -> Mapping[str, Vendor]:
    """The shipped rows with the operator's laid over them. A bad row, which the control API refuses, costs only itself."""
    try:
        return merged(snapshot.providers)
    except ConfigurationError as error:
        log.warning("providers_ignored", reason=error.message)
        return merged({})


class SnapshotStore:
    """The current index, and the document on disk that it came from."""

    def __init__(
        self,
        path: Path,
        *,
        cluster: str,
        public_key: Ed25519PublicKey,
        engine_token: str,
        workers: Workers | None = None,
        countries: Countries | None = None,
    ) -> None:
        self._path = path
        self._cluster = cluster
        self._public_key = public_key
        self._engine_token = engine_token
        self._workers = workers or Workers()
        self._countries = countries
        self._index: Index | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self.applied_at: datetime | None = None

    @property
    def version(self) -> int:
        """Version being served; 0 when none is."""
        return self._index.version if self._index else 0

    @property
    def blocks(self) -> Blocks | None:
        """The blocking rules in force; None before the first snapshot."""
        return self._index.blocks if self._index else None

    def current(self) -> Index:
        """The index to serve from. Raises SnapshotMissing before the first one arrived."""
        if self._index is None:
            raise SnapshotMissing(
                "this gateway has no configuration yet: it is waiting for the control API", retry_after_s=2.0
            )
        return self._index

    async def newer(self, version: int) -> Index:
        """The index, as soon as there is one after `version`."""
        while self._index is None or self._index.version <= version:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            if self._index is not None and self._index.version > version:  # applied by a thread just now
                break
            await waiter
        return self.current()

    def load(self) -> None:
        """Apply what lies on disk, if anything does; a damaged file is reported and left for the next pull
        to replace."""
        try:
            signed = SignedSnapshot.model_validate_json(self._path.read_bytes())
            self._apply(signed)
        except FileNotFoundError:
            return
        except (ValidationError, SnapshotRejected) as error:
            log.warning("snapshot_on_disk_refused", path=str(self._path), reason=str(error))

    def accept(self, signed: SignedSnapshot) -> None:
        """Verify, apply and keep a newer snapshot. Raises SnapshotRejected and changes nothing when it is
        not acceptable."""
        self._apply(signed)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{os.getpid()}.new")
        temporary.write_text(signed.model_dump_json(), encoding="utf-8")
        temporary.replace(self._path)

    def _apply(self, signed: SignedSnapshot) -> None:
        try:
            snapshot = verify(signed, self._public_key)
        except ValidationError as error:
            raise SnapshotRejected(f"the signed snapshot cannot be read by this gateway: {error}") from error
        if snapshot.cluster != self._cluster:
            raise SnapshotRejected(
                f"the snapshot is for cluster '{snapshot.cluster}', this gateway serves '{self._cluster}'"
            )
        if snapshot.version < self.version:
            raise SnapshotRejected(
                f"snapshot version {snapshot.version} is older than {self.version}, which is being served"
            )
        self._index = Index(snapshot, self._engine_token, self._workers, self._countries)
        self.applied_at = datetime.now(UTC)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.get_loop().call_soon_threadsafe(_wake, waiter)
        log.info(
            "snapshot_applied", version=snapshot.version, keys=len(snapshot.keys), routes=len(snapshot.routes)
        )


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def pull(
    store: SnapshotStore, session: aiohttp.ClientSession, url: str, token: str, wait_s: float
) -> None:
    """Long-poll `url` for newer snapshots until cancelled; failures are logged and retried with back-off."""
    failures = 0
    limit = aiohttp.ClientTimeout(total=wait_s + 10.0)
    while True:
        try:
            await _pull_once(store, session, url, token, wait_s, limit)
            failures = 0
        except (aiohttp.ClientError, TimeoutError, ValidationError, FoundryError) as error:
            failures += 1
            first, largest = _BACKOFF_S
            wait = random.uniform(first / 2, min(largest, first * 2 ** min(failures, 10)))  # noqa: S311  jitter, not a secret
            log.warning(
                "snapshot_pull_failed",
                reason=str(error) or type(error).__name__,
                failures=failures,
                retry_s=round(wait, 2),
            )
            await asyncio.sleep(wait)


async def _pull_once(
    store: SnapshotStore,
    session: aiohttp.ClientSession,
    url: str,
    token: str,
    wait_s: float,
    limit: aiohttp.ClientTimeout,
) -> None:
    params = {"after": str(store.version), "wait_s": str(wait_s)}
    async with session.get(
        url, params=params, headers={"authorization": f"Bearer {token}"}, timeout=limit
    ) as response:
        if response.status == 304:
            return
        if response.status != 200:
            raise SnapshotRejected(
                f"the control API answered {response.status} to {url}: {(await response.text())[:300]}"
            )
        signed = SignedSnapshot.model_validate_json(await response.read())
    await asyncio.to_thread(store.accept, signed)
