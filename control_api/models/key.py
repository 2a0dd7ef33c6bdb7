"""Virtual keys. The key itself is not here: only its keyed hash."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from control_api.models.base import Base, Identified
from control_api.models.organization import OwnedByProject


class Key(Identified, OwnedByProject, Base):
    """One virtual key. Revoked rows stay: their hash can never be used again."""

    __tablename__ = "keys"

    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(100)))
    allowed_routes: Mapped[list[str] | None] = mapped_column(ARRAY(String(200)))
    guardrails: Mapped[list[str]] = mapped_column(ARRAY(String(100)), default=list)
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
