"""Organisations and their projects: who owns a row."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_api.models.base import ID_CHARS, Base, Identified


class Organization(Identified, Base):
    """The owner of projects."""

    __tablename__ = "organizations"

    name: Mapped[str] = mapped_column(String(200), unique=True)


class Project(Identified, Base):
    """What keys, deployments and routes belong to."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("organization_id", "name"),)

    organization_id: Mapped[str] = mapped_column(String(ID_CHARS), ForeignKey("organizations.id"))
    name: Mapped[str] = mapped_column(String(200))


class OwnedByProject:
    """Columns of a row that belongs to a project. The organisation is repeated so that one predicate selects it."""

    organization_id: Mapped[str] = mapped_column(String(ID_CHARS), ForeignKey("organizations.id"), index=True)
    project_id: Mapped[str] = mapped_column(String(ID_CHARS), ForeignKey("projects.id"), index=True)
