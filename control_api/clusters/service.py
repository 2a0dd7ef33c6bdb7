"""What is known of clusters: read by the API, written by the reconciler.

What it does not know: HTTP, SQL, Ray.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_api.clusters import repository
from control_api.clusters.schemas import GatewayStatus
from control_api.kit.db import ReadSession, WriteSession
from control_api.models import Cluster
from foundry.errors import NotFound


async def ensure(session: WriteSession, name: str) -> None:
    """Know the cluster of that name."""
    await repository.ensure(session, name)


async def get(session: ReadSession, name: str) -> Cluster:
    """One cluster. Raises NotFound."""
    row = await repository.by_name(session, name)
    if row is None:
        raise NotFound(f"no cluster '{name}'")
    return row


async def list_all(session: ReadSession) -> Sequence[tuple[Cluster, int | None]]:
    """Every cluster with the version of its snapshot."""
    return [
        (row, await repository.snapshot_version(session, row.name))
        for row in await repository.everything(session)
    ]


async def record(
    session: WriteSession,
    seen: Cluster,
    *,
    reachable: bool,
    message: str,
    submitted_hash: str,
    gateway: GatewayStatus,
) -> bool:
    """Write down what was seen, unless the row changed since `seen` was read; whether it holds now."""
    values = {
        "reachable": reachable,
        "message": message,
        "submitted_hash": submitted_hash,
        "gateway": gateway.model_dump(mode="json"),
    }
    if all(getattr(seen, name) == value for name, value in values.items()):
        return True
    return await repository.write(session, seen.name, seen.row_version, values)
