"""Publishing snapshots, and waiting for a newer one.

The database is the truth, a snapshot its signed extract: `publish` builds it anew and stores it only when its content
changed. Several processes may publish at once; an advisory lock makes them take turns, so versions strictly increase.
What it does not know: HTTP, SQL, how gateways use it.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.blocks import service as blocks
from control_api.blocks.schemas import block_entry
from control_api.guardrails import service as guardrails
from control_api.guardrails.schemas import guardrail_entry
from control_api.keys import service as keys
from control_api.kit.changes import Topic, announce
from control_api.kit.db import ReadSession
from control_api.kit.runtime import Runtime
from control_api.limits import service as limits
from control_api.limits.schemas import limit_entry
from control_api.models.base import now
from control_api.providers import service as providers
from control_api.routes import service as routes
from control_api.snapshots import repository
from control_api.snapshots.schemas import content_hash, key_entry, route_entry, signed_snapshot
from foundry.errors import NotFound
from foundry.gateway.signing import public_key_id, sign
from foundry.types.snapshot import SignedSnapshot, Snapshot

log = structlog.get_logger(__name__)
_LOOK_AGAIN_S = 5.0
"""A waiter looks at the database this often even without a signal."""
_RETRY_S = 1.0


async def publish(runtime: Runtime, cluster: str, *, above: int = 0) -> int:
    """Publish the present state if it differs from the published one, or if that is not above `above`; the version."""
    signing_key_id = public_key_id(runtime.signing_key.public_key())
    async with runtime.database.write() as session:
        await repository.lock_cluster(session, cluster)
        published = await repository.latest(session, cluster)
        version = max(published.version if published else 0, above) + 1
        snapshot = await _build(session, runtime, cluster, version)
        digest = content_hash(snapshot, signing_key_id)
        if published is not None and published.content_hash == digest and published.version > above:
            return published.version
        signed = sign(snapshot, runtime.signing_key)
        values = {
            "cluster": cluster,
            "version": version,
            "content_hash": digest,
            "issued_at": snapshot.issued_at,
        }
        await repository.store(session, values | signed.model_dump())
        await announce(session, Topic.SNAPSHOT)
    log.info(
        "snapshot_published",
        cluster=cluster,
        version=version,
        keys=len(snapshot.keys),
        routes=len(snapshot.routes),
    )
    return version


async def _build(session: ReadSession, runtime: Runtime, cluster: str, version: int) -> Snapshot:
    """Everything that a gateway needs, as the database has it now."""
    engine_root = runtime.settings.ray.serve_url.rstrip("/")
    prices, at = await providers.price_book(session), now()
    return Snapshot(
        cluster=cluster,
        version=version,
        issued_at=at,
        keys=tuple(key_entry(row) for row in await keys.list_live(session)),
        routes=tuple(route_entry(row, engine_root, prices, at) for row in await routes.list_all(session)),
        limits=tuple(limit_entry(row) for row in await limits.list_all(session)),
        guardrails=tuple(guardrail_entry(row) for row in await guardrails.list_all(session)),
        blocks=tuple(block_entry(row) for row in await blocks.list_all(session)),
        providers=await providers.operator_rows(session),
    )


async def keep_published(runtime: Runtime, cluster: str) -> None:
    """Publish at every change, until cancelled. Every API process runs this; it is the background task `publisher`."""
    serving = runtime.changes.signal(Topic.SERVING)
    while True:
        seen = serving.count
        try:
            await publish(runtime, cluster)
        except (SQLAlchemyError, OSError) as error:
            log.warning("snapshot_not_published", cluster=cluster, error=str(error), retry_s=_RETRY_S)
            await asyncio.sleep(_RETRY_S)
            continue
        await serving.wait_beyond(seen, _LOOK_AGAIN_S)


async def wait_newer(runtime: Runtime, cluster: str, *, after: int, wait_s: float) -> SignedSnapshot | None:
    """The snapshot once it is newer than `after`, or None after `wait_s` seconds. Raises NotFound.

    A gateway that is ahead of us has seen a database that was lost: versions go on above what it knows.
    No database connection is held while waiting.
    """
    if cluster != runtime.settings.gateway.cluster:
        raise NotFound(
            f"no cluster '{cluster}': this control API serves '{runtime.settings.gateway.cluster}'"
        )
    signal = runtime.changes.signal(Topic.SNAPSHOT)
    deadline = time.monotonic() + wait_s
    while True:
        seen = signal.count
        async with runtime.database.read() as session:
            version = await repository.latest_version(session, cluster)
            row = await repository.latest(session, cluster) if version > after else None
        if row is not None:
            return signed_snapshot(row)
        if version < after:
            log.warning("gateway_ahead", cluster=cluster, gateway_version=after, published_version=version)
            await publish(runtime, cluster, above=after)
            continue
        remaining = deadline - time.monotonic()
        if remaining <= 0 or runtime.stopping.is_set():
            return None
        await signal.wait_beyond(seen, min(remaining, _LOOK_AGAIN_S))  # `stopping` fires it too
