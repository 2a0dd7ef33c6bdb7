"""A real PostgreSQL for tests: one server a session, one database a test, made from a migrated template."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from foundry.local.postgres import ROLE, SUPERUSER, Postgres, database_url

PASSWORD = "test-only"  # of a server on loopback that lives as long as the test session
TEMPLATE = "foundry"
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_numbers = count()


@contextmanager
def postgres_home() -> Generator[Path]:
    """A folder that an unprivileged server can reach (pytest's own are not, as root)."""
    home = Path(tempfile.mkdtemp(prefix="fpg-"))
    home.chmod(0o711)
    try:
        yield home
    finally:
        shutil.rmtree(home)


class Server:
    """A running server and its databases."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def url(self, database: str, role: str = ROLE) -> str:
        return database_url(PASSWORD, self.postgres.port, role=role, database=database)

    @contextmanager
    def database(self, template: str | None = TEMPLATE) -> Generator[str]:
        """The URL of a fresh database, owned by the platform's role."""
        name = f"test_{next(_numbers)}"
        with psycopg.connect(self.url("postgres", SUPERUSER), autocommit=True) as admin:
            statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
            source = sql.Identifier(template or "template1")
            admin.execute(statement.format(sql.Identifier(name), sql.Identifier(ROLE), source))
            try:
                yield self.url(name)
            finally:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
