"""What repositories share: the one tenant selector and keyset pagination.

What it does not know: nouns. Repositories are modules of functions; those that read take a ReadSession, those that
write a WriteSession, so the type checker sees a write behind a reading endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Mapped

from control_api.kit.db import ReadSession
from control_api.kit.pagination import Window
from foundry.types.control import Page


class Viewer(Protocol):
    """Who looks: the part of a subject that decides what rows it sees."""

    @property
    def organization_id(self) -> str:
        """Its organisation."""
        ...


class Owned(Protocol):
    """A row that belongs to an organisation and sorts by id."""

    id: Mapped[str]
    organization_id: Mapped[str]


Row = TypeVar("Row", bound=Owned)
View = TypeVar("View")


def is_visible(model: type[Owned], viewer: Viewer) -> ColumnElement[bool]:
    """The rule of what a viewer sees: the rows of its organisation."""
    return model.organization_id == viewer.organization_id


def sees(viewer: Viewer, row: Owned) -> bool:
    """The same rule for a row in hand."""
    return row.organization_id == viewer.organization_id


def visible_to(model: type[Row], viewer: Viewer) -> Select[Row]:
    """SELECT of a noun's rows that the viewer may see: every tenant query starts here."""
    return select(model).where(is_visible(model, viewer))


async def fetch_window(
    session: ReadSession, statement: Select[Row], model: type[Row], window: Window
) -> tuple[Sequence[Row], str | None]:
    """Rows of one page, newest first, and the cursor of the next page."""
    if window.before_id is not None:
        statement = statement.where(model.id < window.before_id)
    rows = await session.all(statement.order_by(model.id.desc()).limit(window.limit + 1))
    kept = rows[: window.limit]
    return kept, window.cursor_after(kept[-1].id) if len(rows) > window.limit else None


def page(items: Sequence[View], next_cursor: str | None) -> Page[View]:
    """A page of views."""
    return Page[View](items=tuple(items), next_cursor=next_cursor)
