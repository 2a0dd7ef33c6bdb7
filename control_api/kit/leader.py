"""Leadership: at most one of several API processes holds a named PostgreSQL advisory lock.

The lock belongs to a connection of its own, so it is free the moment its process dies. It keeps two processes from doing
the same work; correctness does not hang on it (writes are guarded by row versions).
What it does not know: what the leader does.
"""

from __future__ import annotations

import hashlib

import psycopg
import structlog

log = structlog.get_logger(__name__)


def lock_number(name: str) -> int:
    """The 63-bit number that PostgreSQL knows the lock by."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1


class Leadership:
    """One contender for the lock `name`."""

    def __init__(self, database_url: str, name: str) -> None:
        self._url = database_url
        self._name = name
        self._connection: psycopg.AsyncConnection | None = None

    async def held(self) -> bool:
        """Whether we lead now; tries to become leader if we do not. Raises psycopg.Error when the database is away."""
        if self._connection is not None:
            try:
                await self._connection.execute("SELECT 1")
            except psycopg.Error:
                await self.release()
            else:
                return True
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=5)
        try:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (lock_number(self._name),))
            row = await cursor.fetchone()
        except psycopg.Error:
            await connection.close()
            raise
        if row is None or not row[0]:
            await connection.close()
            return False
        self._connection = connection
        log.info("leadership_taken", lock=self._name)
        return True

    async def release(self) -> None:
        """Give the lock up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
