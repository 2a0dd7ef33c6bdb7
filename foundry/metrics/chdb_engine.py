"""chDB as an engine for one process: statements in, bytes out, errors with ClickHouse's own codes.

Every statement runs on a connection of its own (0.3 ms to open), so database, settings and temporary tables of one request
never leak into another; a session keeps its connection until it times out. chDB takes statements from several threads at
once and lets go of the interpreter lock while it works, so a few worker threads run them, readers and writers apart.
What it does not know: HTTP (`http_protocol.py`), users. One process per folder, held by a lock; never fork after `open()`.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from foundry.errors import MetricsRefused, ProcessError
from foundry.metrics.sql import quoted_identifier, quoted_string

_CODE = re.compile(r"Code: (\d+)\.")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SESSIONS = 256

SESSION_NOT_FOUND = 372
SESSION_IS_LOCKED = 373
UNKNOWN_SETTING = 115
TOO_MANY_SIMULTANEOUS_QUERIES = 202


class Result(Protocol):
    """What we use of chDB's result object."""

    def bytes(self) -> bytes | None: ...
    def rows_read(self) -> int: ...
    def bytes_read(self) -> int: ...
    def rows_written(self) -> int: ...
    def bytes_written(self) -> int: ...


class Connection(Protocol):
    """What we use of chDB's connection object; every call blocks and raises RuntimeError with ClickHouse's message."""

    def query(self, sql: str, output_format: str, *, params: Mapping[str, str] = ...) -> Result: ...
    def send_insert(self, sql: str, data_format: str) -> object: ...
    def insert_append(self, inserter: object, data: bytes) -> None: ...
    def insert_cancel(self, inserter: object) -> None: ...
    def insert_done(self, inserter: object) -> Result: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement and everything that scopes it."""

    sql: str
    """Without a trailing `FORMAT` clause when `data` is given."""
    data: bytes | None = None
    """Body of an INSERT, encoded in `data_format`."""
    data_format: str = ""
    output_format: str = "TabSeparated"
    """Used when the statement has no FORMAT clause."""
    database: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Values of `{name:Type}` placeholders."""
    session_id: str | None = None
    session_timeout_s: float = 60.0
    session_must_exist: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave back."""

    body: bytes
    summary: dict[str, str]
    """ClickHouse's summary: counters as decimal strings."""


@dataclass(slots=True)
class _Session:
    connection: Connection
    lock: threading.Lock
    expires: float


class Engine:
    """The one chDB of this process. Thread-safe after `open()`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root: Connection | None = None
        self._lock_fd = -1
        self._sessions: dict[str, _Session] = {}
        self._sessions_lock = threading.Lock()

    def open(self) -> None:
        """Load the engine (about two seconds) and open the folder. Raises ProcessError when another process holds it."""
        self._path.mkdir(parents=True, exist_ok=True)
        self._lock_fd = os.open(self._path / "foundry.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProcessError(
                f"another process holds the metrics store {self._path}: stop it first"
            ) from error
        self._root = self._connect()

    def close(self) -> None:
        """Close every connection: the engine flushes and stops its background work."""
        with self._sessions_lock:
            for session in self._sessions.values():
                session.connection.close()
            self._sessions.clear()
        if self._root is not None:
            self._root.close()
            self._root = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def run(self, statement: Statement) -> Answer:
        """Run one statement, blocking. Raises MetricsRefused with ClickHouse's code."""
        if statement.session_id is None:
            connection = self._connect()
            try:
                return _execute(connection, statement)
            finally:
                connection.close()
        session = self._session(statement.session_id, must_exist=statement.session_must_exist)
        try:
            saved = _saved_settings(session.connection, statement.settings)
            try:
                return _execute(session.connection, statement)
            finally:
                _apply(session.connection, saved)
        finally:
            session.expires = time.monotonic() + statement.session_timeout_s
            session.lock.release()

    def expire_sessions(self) -> None:
        """Close the sessions whose time is up."""
        now = time.monotonic()
        with self._sessions_lock:
            for name, session in list(self._sessions.items()):
                if session.expires < now and session.lock.acquire(blocking=False):
                    del self._sessions[name]
                    session.connection.close()

    def _connect(self) -> Connection:
        import_module("chdb")  # 300 MB: only this process pays
        # why: the module that the public wrapper wraps; the wrapper hides an insert's counters and ships no types
        return cast("Connection", import_module("chdb._chdb").connect(str(self._path)))

    def _session(self, name: str, *, must_exist: bool) -> _Session:
        """The named session, locked for the caller."""
        self.expire_sessions()
        with self._sessions_lock:
            session = self._sessions.get(name)
            if session is None:
                if must_exist:
                    raise _refused(SESSION_NOT_FOUND, f"Session {name} not found", "SESSION_NOT_FOUND")
                if len(self._sessions) >= _MAX_SESSIONS:
                    raise _refused(
                        TOO_MANY_SIMULTANEOUS_QUERIES,
                        f"{_MAX_SESSIONS} sessions are open: send no session_id, or let some time out",
                        "TOO_MANY_SIMULTANEOUS_QUERIES",
                    )
                session = self._sessions[name] = _Session(self._connect(), threading.Lock(), float("inf"))
            if not session.lock.acquire(blocking=False):
                raise _refused(
                    SESSION_IS_LOCKED, f"Session {name} is locked by a concurrent client", "SESSION_IS_LOCKED"
                )
            return session


def _execute(connection: Connection, statement: Statement) -> Answer:
    started = time.perf_counter()
    try:
        if statement.database:
            connection.query(f"USE {quoted_identifier(statement.database)}", "TabSeparated")
        # Inserts are synchronous unless the caller asks otherwise: an acknowledged row is a written row.
        _apply(connection, {"async_insert": "0", **statement.settings})
        if statement.data is None:
            result: Result = connection.query(
                statement.sql, statement.output_format, params=dict(statement.parameters)
            )
        else:
            result = _insert(connection, statement)
    except RuntimeError as error:
        raise translated(error) from error
    summary = {
        "read_rows": str(result.rows_read()),
        "read_bytes": str(result.bytes_read()),
        "written_rows": str(result.rows_written()),
        "written_bytes": str(result.bytes_written()),
        "elapsed_ns": str(int((time.perf_counter() - started) * 1e9)),
    }
    return Answer(result.bytes() or b"", summary)


def _insert(connection: Connection, statement: Statement) -> Result:
    inserter = connection.send_insert(statement.sql, statement.data_format)
    try:
        connection.insert_append(inserter, statement.data or b"")
    except RuntimeError:
        connection.insert_cancel(inserter)
        raise
    return connection.insert_done(inserter)


def _apply(connection: Connection, settings: Mapping[str, str]) -> None:
    if not settings:
        return
    for name in settings:
        if not _NAME.fullmatch(name):
            raise _refused(UNKNOWN_SETTING, f"Unknown setting '{name}'", "UNKNOWN_SETTING")
    assignments = ", ".join(f"{name} = {quoted_string(value)}" for name, value in settings.items())
    connection.query(f"SET {assignments}", "TabSeparated")


def _saved_settings(connection: Connection, settings: Mapping[str, str]) -> dict[str, str]:
    """Current values of the settings a statement is about to change in its session."""
    names = ", ".join(quoted_string(name) for name in (*settings, "async_insert"))
    sql = f"SELECT name, value FROM system.settings WHERE name IN ({names})"  # noqa: S608  (quoted above)
    rows = bytes(connection.query(sql, "TabSeparatedRaw").bytes() or b"").decode().splitlines()
    saved = dict(row.split("\t", 1) for row in rows)
    return {name: value.removeprefix("auto(").removesuffix(")") for name, value in saved.items()}


def translated(error: RuntimeError) -> MetricsRefused:
    """chDB's error as ours, with ClickHouse's number where the text has one."""
    text = str(error)
    found = _CODE.search(text)
    return MetricsRefused(
        text[found.start() :] if found else text, store_code=int(found[1]) if found else None
    )


def _refused(code: int, text: str, name: str) -> MetricsRefused:
    return MetricsRefused(f"Code: {code}. DB::Exception: {text}. ({name})", store_code=code)
