"""Limits, guardrail profiles and blocking rules, and what was read of the configuration file.

What it does not know: what a `spec` says (`foundry.types`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from control_api.models.base import Base, Identified, Sourced, now
from control_api.models.organization import OwnedByProject


class NamedSpec(Identified, Sourced, OwnedByProject):
    """Columns of a noun that is one frozen contract under a name; names are unique on the instance."""

    name: Mapped[str] = mapped_column(String(100), unique=True)
    spec: Mapped[dict[str, Any]] = mapped_column(JSONB)  # the contract as JSON


class Limit(NamedSpec, Base):
    """A limit or a budget: `LimitEntry`."""

    __tablename__ = "limits"


class Guardrail(NamedSpec, Base):
    """A `GuardrailProfile`."""

    __tablename__ = "guardrails"


class Block(NamedSpec, Base):
    """A `BlockRule`."""

    __tablename__ = "blocks"


class GatewayFileState(Base):
    """What became of the configuration file of one cluster."""

    __tablename__ = "gateway_files"

    cluster: Mapped[str] = mapped_column(String(100), primary_key=True)
    path: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(20))
    content_hash: Mapped[str] = mapped_column(String(64), default="")
    """SHA-256 of the file that is in force; empty: none."""
    applied_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    checked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    problems: Mapped[list[Any]] = mapped_column(JSONB, default=list)  # ConfigProblem as JSON, each
    providers: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)  # the operator's rows, by name
    prices: Mapped[list[Any]] = mapped_column(JSONB, default=list)  # OperatorPrice as JSON, each
