"""Every SQL statement about snapshots."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.leader import lock_number
from control_api.models import StoredSnapshot


async def latest(session: ReadSession, cluster: str) -> StoredSnapshot | None:
    """The published snapshot of a cluster."""
    return await session.one_or_none(select(StoredSnapshot).where(StoredSnapshot.cluster == cluster))


async def latest_version(session: ReadSession, cluster: str) -> int:
    """Version of the published snapshot; 0 when there is none."""
    statement = select(StoredSnapshot.version).where(StoredSnapshot.cluster == cluster)
    return await session.scalar(statement) or 0


async def lock_cluster(session: WriteSession, cluster: str) -> None:
    """Wait until no other transaction publishes for this cluster. Taken first, so that what is read after it is newest."""
    await session.scalar(select(func.pg_advisory_xact_lock(lock_number(f"foundry-snapshot-{cluster}"))))


async def store(session: WriteSession, values: Mapping[str, object]) -> None:
    """Put the snapshot in place of the cluster's present one."""
    statement = insert(StoredSnapshot).values(values)
    changed = {name: value for name, value in values.items() if name != "cluster"}
    await session.execute(statement.on_conflict_do_update(index_elements=["cluster"], set_=changed))
