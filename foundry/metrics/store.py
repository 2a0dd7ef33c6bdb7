"""The metrics store as the rest of Foundry sees it: connect, migrate, query, insert; errors as FoundryError.

It speaks to whatever answers at `metrics.url`: a ClickHouse server, or the embedded store. The client library is imported
at the first connection, in a thread, and only its streaming paths are used: no numpy, no pandas (8 MB, not 90).
What it does not know: what the tables mean (`queries.py`), spools (`writer.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import aiohttp
import structlog

from foundry.errors import ConfigurationError, FoundryError, MetricsRefused, MetricsUnavailable
from foundry.metrics.sql import quoted_identifier
from foundry.settings import Settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.asyncclient import AsyncClient

Value = object
"""One column's value as clickhouse-connect decodes it: str, int, float, bool, Decimal, aware datetime, None, or a list."""
Row = dict[str, Value]

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
_RETRY_AFTER_S = 2.0
_TRANSIENT = frozenset({159, 160, 202, 203, 209, 210, 241, 242, 243, 252, 319, 425, 999})
"""ClickHouse's timeouts, overload, lost connections, full disk: the same statement can succeed later."""
_STATEMENT_END = re.compile(r";[ \t]*(?:\n|$)")

log = structlog.get_logger("foundry.metrics.store")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `tables/`: statements that are harmless to repeat."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Hex SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The statements, in order; each ends in a semicolon at the end of a line."""
        return [part.strip() for part in _STATEMENT_END.split(self.sql) if part.strip()]


def migrations() -> list[Migration]:
    """The files `NNNN_name.sql`, in order."""
    found = [
        entry
        for entry in files("foundry.metrics").joinpath("tables").iterdir()
        if entry.name.endswith(".sql")
    ]
    made = [Migration(int(entry.name[:4]), entry.name, entry.read_text(encoding="utf-8")) for entry in found]
    return sorted(made, key=lambda migration: migration.version)


class Store:
    """An open connection pool to the metrics store. Make it with `connect`, end it with `close`."""

    def __init__(self, client: AsyncClient, *, url: str, database: str) -> None:
        self._client = client
        self._url = url
        self._database = database

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """Connect and check user and password. Raises MetricsUnavailable, MetricsRefused or ConfigurationError."""
        target = settings.metrics
        parts = urlsplit(target.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(
                f"metrics.url is {target.url!r}: set it to http(s)://host:port of a ClickHouse server",
                param="metrics.url",
            )
        password = await asyncio.to_thread(settings.secret, "clickhouse.password")
        library = await asyncio.to_thread(import_module, "clickhouse_connect")
        async with _translated(target.url):
            client: AsyncClient = await library.get_async_client(
                interface=parts.scheme,
                host=parts.hostname,
                port=parts.port or (8443 if parts.scheme == "https" else 8123),
                username=target.user,
                password=password,
                connect_timeout=CONNECT_TIMEOUT_S,
                send_receive_timeout=ANSWER_TIMEOUT_S,
                tz_mode="aware",
                compress=False,
                query_retries=0,
                show_clickhouse_errors="scrub",
            )
        client.database = target.database
        return cls(client, url=target.url, database=target.database)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def check(self) -> None:
        """Raises MetricsUnavailable or MetricsRefused unless the store answers a statement."""
        await self.query("SELECT 1 AS one", {})

    async def query(
        self, sql: str, parameters: Mapping[str, object], *, settings: Mapping[str, object] | None = None
    ) -> list[Row]:
        """Rows of a SELECT whose values are bound as `{name:Type}`. Raises MetricsRefused or MetricsUnavailable."""
        async with _translated(self._url):
            result = await self._client.query(sql, parameters=dict(parameters), settings=dict(settings or {}))
            return [dict(row) for row in result.named_results()]

    async def execute(self, sql: str) -> None:
        """Run a statement that returns nothing. Raises MetricsRefused or MetricsUnavailable."""
        async with _translated(self._url):
            await self._client.command(sql)

    async def insert_json(self, table: str, rows: bytes) -> None:
        """Insert rows given as JSON objects, one a line; returns once they are stored."""
        async with _translated(self._url):
            await self._client.raw_insert(
                quoted_identifier(table),
                insert_block=rows,
                fmt="JSONEachRow",
                settings={"async_insert": 0, "date_time_input_format": "best_effort"},
            )

    async def migrate(self) -> list[str]:
        """Apply the files of `tables/` that are not applied yet; return their names.

        Safe to run twice, and twice at once: ClickHouse has no transactions over DDL, so every statement is one that may
        be repeated, and a file is remembered only after all of its statements ran.
        """
        async with _translated(self._url):
            await self._client.command(
                f"CREATE DATABASE IF NOT EXISTS {quoted_identifier(self._database)}", use_database=False
            )
        await self.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, name String, checksum String,"
            " applied_at DateTime64(6, 'UTC') DEFAULT now64(6)) ENGINE = ReplacingMergeTree(applied_at) ORDER BY version"
        )
        rows = await self.query("SELECT version, checksum FROM schema_migrations FINAL", {})
        applied = {row["version"]: row["checksum"] for row in rows}
        done: list[str] = []
        for migration in migrations():
            known = applied.get(migration.version)
            if known is None:
                await self._apply(migration)
                done.append(migration.name)
            elif known != migration.checksum:
                raise ConfigurationError(
                    f"tables/{migration.name} was edited after it was applied to {self._url}: undo the edit, add a new file"
                )
        return done

    async def _apply(self, migration: Migration) -> None:
        for statement in migration.statements:
            await self.execute(statement)
        record = {"version": migration.version, "name": migration.name, "checksum": migration.checksum}
        async with _translated(self._url):
            await self._client.command(
                "INSERT INTO schema_migrations (version, name, checksum)"
                " SELECT {version:UInt32}, {name:String}, {checksum:String}",
                parameters=record,
            )
        log.info("metrics migration applied", migration=migration.name)


@asynccontextmanager
async def _translated(url: str) -> AsyncGenerator[None]:
    """Turn the client library's errors into ours."""
    exceptions = await asyncio.to_thread(import_module, "clickhouse_connect.driver.exceptions")
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unavailable(url, error) from error
    except exceptions.Error as error:
        raise _ours(url, error) from error


def _ours(url: str, error: Exception) -> FoundryError:
    code: int | None = getattr(error, "code", None)
    if code is None or code in _TRANSIENT:
        return _unavailable(url, error)
    hint = ": check metrics.user and the secret clickhouse.password" if code in {193, 194, 516} else ""
    return MetricsRefused(f"the metrics store refused a statement{hint}: {error}", store_code=code)


def _unavailable(url: str, error: Exception) -> MetricsUnavailable:
    said = str(error) or type(error).__name__
    return MetricsUnavailable(
        f"the metrics store at {url} does not answer: {said}", retry_after_s=_RETRY_AFTER_S
    )
