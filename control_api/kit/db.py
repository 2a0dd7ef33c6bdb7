"""Database sessions. Reading and writing are different types, and neither can commit: the unit of work does.

What it does not know: tables, requests. `Database.write()` is one transaction: it commits when its block ends well and
rolls back when it raises; `Database.read()` is a READ ONLY transaction.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import Executable, Select, text
from sqlalchemy.engine import CursorResult, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

Row = TypeVar("Row")
_DRIVER = "postgresql+psycopg"
_CONNECT_TIMEOUT_S = 5


def sqlalchemy_url(database_url: str) -> str:
    """`postgresql://...` with the driver that we use."""
    return make_url(database_url).set(drivername=_DRIVER).render_as_string(hide_password=False)


class ReadSession:
    """A read-only transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def one_or_none(self, statement: Select[Row]) -> Row | None:
        """The only row, or None. Raises MultipleResultsFound."""
        return (await self._session.scalars(statement)).one_or_none()

    async def all(self, statement: Select[Row]) -> Sequence[Row]:
        """Every row, in the statement's order."""
        return (await self._session.scalars(statement)).all()

    async def scalar(self, statement: Select[Row]) -> Row | None:
        """First column of the first row, or None."""
        return await self._session.scalar(statement)


class WriteSession(ReadSession):
    """A transaction that may change rows. It ends with the block or the request that opened it, not here."""

    async def insert(self, *rows: object) -> None:
        """Insert rows now, so that a violated constraint shows here. Raises IntegrityError."""
        self._session.add_all(rows)
        await self._session.flush()

    async def flush(self) -> None:
        """Send pending changes now. Raises IntegrityError."""
        await self._session.flush()

    async def delete(self, row: object) -> None:
        """Delete a loaded row now."""
        await self._session.delete(row)
        await self._session.flush()

    async def execute(
        self, statement: Executable, parameters: dict[str, Any] | None = None
    ) -> int:  # Any: bound values
        """Run a statement that changes rows; the number of rows it touched."""
        result = await self._session.execute(statement, parameters)
        return result.rowcount if isinstance(result, CursorResult) else 0


class Database:
    """The connection pool of one process.

    database_url: `postgresql://user:password@host:port/name`. pool_size: connections kept; twice as many at a peak.
    """

    def __init__(self, database_url: str, *, pool_size: int = 5) -> None:
        self.url = database_url
        self._engine: AsyncEngine = create_async_engine(
            sqlalchemy_url(database_url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            hide_parameters=True,  # values (hashes, names) never reach a log through an error's text
            pool_pre_ping=True,  # a restarted server costs one failed ping, not one failed request
            connect_args={
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "options": "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
            },
        )
        self._read_engine = self._engine.execution_options(postgresql_readonly=True)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[ReadSession]:
        """A READ ONLY transaction, rolled back at the end."""
        async with AsyncSession(self._read_engine, expire_on_commit=False) as session:
            yield ReadSession(session)

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[WriteSession]:
        """A transaction: committed when the block ends well, rolled back when it raises."""
        async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
            yield WriteSession(session)

    async def ping(self) -> None:
        """One round trip. Raises SQLAlchemyError when the database does not answer."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
