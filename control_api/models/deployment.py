"""Deployments: desired specification and observed status, side by side."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from control_api.models.base import Base, Identified, now
from control_api.models.organization import OwnedByProject


class Deployment(Identified, OwnedByProject, Base):
    """One deployment. `row_version` counts every change and guards what the reconciler writes."""

    __tablename__ = "deployments"

    name: Mapped[str] = mapped_column(String(47), unique=True)
    spec: Mapped[dict[str, Any]] = mapped_column(JSONB)  # DeploymentSpec as JSON
    generation: Mapped[int] = mapped_column(Integer, default=1)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """Counts fresh starts asked for after a failure; a change makes Serve build the application anew."""
    status: Mapped[dict[str, Any]] = mapped_column(JSONB)  # DeploymentStatus as JSON
    observed_generation: Mapped[int] = mapped_column(Integer, default=0)
    row_version: Mapped[int] = mapped_column(BigInteger, default=1)
    deleting_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
