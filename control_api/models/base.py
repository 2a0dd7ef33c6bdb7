"""The declarative base: naming of constraints, UTC timestamps, columns that many tables share.

What it does not know: nouns.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import DateTime, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID_CHARS = 64
FROM_API, FROM_FILE = "api", "file"
"""Values of `source`: made by a call, or declared in `foundry.toml`."""


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Base of all tables. Names of constraints are derived, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Sourced:
    """Who owns the row's name: calls, or the configuration file."""

    source: Mapped[str] = mapped_column(String(10), default=FROM_API)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)


class Identified:
    """A prefixed id that sorts by creation, and the time of creation."""

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
