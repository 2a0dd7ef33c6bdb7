"""Routes: a public model name and its ordered targets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Integer, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from control_api.models.base import ID_CHARS, Base, Identified, now
from control_api.models.deployment import Deployment
from control_api.models.organization import OwnedByProject


class Route(Identified, OwnedByProject, Base):
    """One public model name."""

    __tablename__ = "routes"

    name: Mapped[str] = mapped_column(String(200), unique=True)
    task: Mapped[str] = mapped_column(String(20))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)

    targets: Mapped[list[RouteTarget]] = relationship(
        lazy="raise", order_by="RouteTarget.position", cascade="all, delete-orphan", passive_deletes=True
    )


class RouteTarget(Base):
    """One target of a route: an own deployment, or a vendor's model."""

    __tablename__ = "route_targets"
    __table_args__ = (
        CheckConstraint(
            "(kind = 'engine' AND deployment_id IS NOT NULL)"
            " OR (kind = 'provider' AND provider IS NOT NULL AND model IS NOT NULL)",
            name="kind_fields",
        ),
    )

    route_id: Mapped[str] = mapped_column(
        String(ID_CHARS), ForeignKey("routes.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    deployment_id: Mapped[str | None] = mapped_column(
        String(ID_CHARS), ForeignKey("deployments.id", ondelete="RESTRICT"), index=True
    )
    provider: Mapped[str | None] = mapped_column(String(100))
    model: Mapped[str | None] = mapped_column(String(300))
    base_url: Mapped[str | None] = mapped_column(String(500))
    price: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))  # Price as JSON

    deployment: Mapped[Deployment | None] = relationship(lazy="raise")
