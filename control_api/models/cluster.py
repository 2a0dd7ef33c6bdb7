"""Ray clusters as the reconciler sees them, and the snapshot that is published for each."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, DateTime, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from control_api.models.base import Base, now


class Cluster(Base):
    """One Ray cluster and what was last submitted to it."""

    __tablename__ = "clusters"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    reachable: Mapped[bool] = mapped_column(Boolean, default=False)
    message: Mapped[str] = mapped_column(Text, default="")
    submitted_hash: Mapped[str] = mapped_column(String(64), default="")
    """Fingerprint of the Serve configuration that the cluster took last; empty: none yet."""
    gateway: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)  # GatewayStatus as JSON
    row_version: Mapped[int] = mapped_column(BigInteger, default=1)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)


class StoredSnapshot(Base):
    """The newest signed snapshot of a cluster, exactly as it travels."""

    __tablename__ = "snapshots"

    cluster: Mapped[str] = mapped_column(String(100), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    content_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the content without version and time, and of the signing key's id: equal means nothing to publish."""
    payload: Mapped[str] = mapped_column(Text)
    signature: Mapped[str] = mapped_column(String(200))
    key_id: Mapped[str] = mapped_column(String(16))
    issued_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
