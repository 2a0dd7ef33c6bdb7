"""Every SQL statement about clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from control_api.kit.db import ReadSession, WriteSession
from control_api.models import Cluster, StoredSnapshot
from control_api.models.base import now


async def ensure(session: WriteSession, name: str) -> None:
    """Make the row if there is none."""
    values = {
        "name": name,
        "reachable": False,
        "message": "not looked at yet",
        "submitted_hash": "",
        "gateway": {},
    }
    values |= {"row_version": 1, "updated_at": now()}
    await session.execute(insert(Cluster).values(values).on_conflict_do_nothing())


async def by_name(session: ReadSession, name: str) -> Cluster | None:
    """One cluster."""
    return await session.one_or_none(select(Cluster).where(Cluster.name == name))


async def everything(session: ReadSession) -> Sequence[Cluster]:
    """Every cluster, by name."""
    return await session.all(select(Cluster).order_by(Cluster.name))


async def snapshot_version(session: ReadSession, name: str) -> int | None:
    """Version of the snapshot that is published for a cluster."""
    return await session.scalar(select(StoredSnapshot.version).where(StoredSnapshot.cluster == name))


async def write(
    session: WriteSession, name: str, row_version: int, values: dict[str, Any]
) -> bool:  # Any: column values
    """Write what was observed, unless the row changed since it was read; whether it was written."""
    statement = (
        update(Cluster)
        .where(Cluster.name == name, Cluster.row_version == row_version)
        .values(**values, row_version=row_version + 1, updated_at=now())
    )
    return await session.execute(statement) == 1
