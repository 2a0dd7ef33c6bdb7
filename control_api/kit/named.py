"""Nouns that are one frozen contract under a name (limits, guardrail profiles, blocking rules): their SQL and who may change them.

A name is unique on the instance and has one owner: calls (`api`) or the configuration file (`file`); a call cannot change
what the file declares. What it does not know: nouns. Their repositories bind it to their table; their services check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Mapped

from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.leader import lock_number
from control_api.kit.pagination import Window
from control_api.kit.repository import Viewer, fetch_window, sees, visible_to
from foundry.errors import Conflict, NotFound
from foundry.telemetry import new_id

_CONFIGURATION = "foundry-gateway-configuration"


class NamedRow(Protocol):
    """A row of such a noun."""

    id: Mapped[str]
    organization_id: Mapped[str]
    project_id: Mapped[str]
    name: Mapped[str]
    source: Mapped[str]
    spec: Mapped[dict[str, Any]]  # Any: the contract as JSON
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Owner(Viewer, Protocol):
    """Whose a new row becomes."""

    @property
    def project_id(self) -> str:
        """Its project."""
        ...


Row = TypeVar("Row", bound=NamedRow)


async def lock_configuration(session: WriteSession) -> None:
    """Wait until no other transaction changes routes, limits, guardrails or blocks: what one refers to stays there."""
    await session.scalar(select(func.pg_advisory_xact_lock(lock_number(_CONFIGURATION))))


def refuse_if_declared(noun: str, name: str, source: str) -> None:
    """Raises Conflict for what the configuration file owns."""
    if source == "file":
        raise Conflict(f"the {noun} '{name}' is declared in the configuration file: change it there")


class NamedNoun(Generic[Row]):
    """One such noun. model: its table. noun: the word for errors. prefix: of its ids."""

    def __init__(self, model: type[Row], noun: str, prefix: str) -> None:
        self._model = model
        self._noun = noun
        self._prefix = prefix

    async def window(
        self, session: ReadSession, subject: Viewer, window: Window
    ) -> tuple[Sequence[Row], str | None]:
        """One page of the visible rows, newest first."""
        return await fetch_window(session, visible_to(self._model, subject), self._model, window)

    async def get(self, session: ReadSession, subject: Viewer, name: str) -> Row:
        """The visible row of that name. Raises NotFound."""
        row = await session.one_or_none(visible_to(self._model, subject).where(self._model.name == name))
        if row is None:
            raise NotFound(f"no {self._noun} '{name}'")
        return row

    async def put(
        self, session: WriteSession, subject: Owner, name: str, spec: BaseModel, *, source: str
    ) -> Row:
        """Make or replace. Raises Conflict for a name that another organisation, or the file, owns."""
        row = await self._any(session, name)
        content = spec.model_dump(mode="json")
        if row is None:
            row = self._model()
            row.id, row.name, row.spec, row.source = new_id(self._prefix), name, content, source
            row.organization_id, row.project_id = subject.organization_id, subject.project_id
            await session.insert(row)
            return row
        if source != "file":
            if not sees(subject, row):
                raise Conflict(f"the name '{name}' is taken: choose another")
            refuse_if_declared(self._noun, name, row.source)
        if (row.spec, row.source) != (content, source):
            row.spec, row.source, row.updated_at = content, source, datetime.now(UTC)
            await session.flush()
        return row

    async def delete(self, session: WriteSession, subject: Viewer, name: str) -> None:
        """Delete a row that calls own. Raises NotFound, Conflict."""
        row = await self._any(session, name)
        if row is None or not sees(subject, row):
            raise NotFound(f"no {self._noun} '{name}'")
        refuse_if_declared(self._noun, name, row.source)
        await session.delete(row)

    async def everything(self, session: ReadSession) -> Sequence[Row]:
        """Every row of the instance, by name: for the snapshot."""
        return await session.all(select(self._model).order_by(self._model.name))

    async def names(self, session: ReadSession) -> Sequence[str]:
        """Every name of the instance."""
        return await session.all(select(self._model.name))

    async def declare(
        self, session: WriteSession, owner: Owner, wanted: Mapping[str, BaseModel]
    ) -> list[str]:
        """Make the file's rows these and no others; names that calls had made and the file took over."""
        taken = select(self._model.name).where(
            self._model.source != "file", self._model.name.in_(list(wanted))
        )
        names = list(await session.all(taken.order_by(self._model.name)))
        gone = delete(self._model).where(self._model.source == "file", self._model.name.not_in(list(wanted)))
        await session.execute(gone)
        for name, spec in wanted.items():
            await self.put(session, owner, name, spec, source="file")
        return names

    async def _any(self, session: ReadSession, name: str) -> Row | None:
        return await session.one_or_none(select(self._model).where(self._model.name == name))
