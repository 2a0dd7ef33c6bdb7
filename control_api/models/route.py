"""Routes: a public model name and its ordered targets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Integer, String
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from control_api.models.base import ID_CHARS, Base, Identified, Sourced
from control_api.models.deployment import Deployment
from control_api.models.organization import OwnedByProject


class Route(Identified, Sourced, OwnedByProject, Base):
    """One public model name."""

    __tablename__ = "routes"

    name: Mapped[str] = mapped_column(String(200), unique=True)
    task: Mapped[str] = mapped_column(String(20))
    routing: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)  # Routing as JSON
    guardrails: Mapped[list[str]] = mapped_column(ARRAY(String(100)), default=list)
    cache: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))  # CachePolicy as JSON

    targets: Mapped[list[RouteTarget]] = relationship(
        lazy="raise", order_by="RouteTarget.position", cascade="all, delete-orphan", passive_deletes=True
    )


class RouteTarget(Base):
    """One target of a route: an own deployment, or a vendor's model."""

    __tablename__ = "route_targets"
    __table_args__ = (
        CheckConstraint(
            "(kind = 'engine' AND deployment_name IS NOT NULL)"
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
    deployment_name: Mapped[str | None] = mapped_column(String(47), index=True)
    """Of an engine target; without `deployment_id` while no such deployment exists (the file may name it first)."""
    provider: Mapped[str | None] = mapped_column(String(100))
    model: Mapped[str | None] = mapped_column(String(300))
    """The vendor's name of the model; of an engine target the adapter, NULL for the model itself."""
    base_url: Mapped[str | None] = mapped_column(String(500))
    price: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))  # Price as JSON
    share: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)  # TargetShare as JSON

    deployment: Mapped[Deployment | None] = relationship(lazy="raise")
