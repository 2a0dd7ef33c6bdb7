"""ClickHouse's HTTP protocol as a raw ASGI application over one engine.

What it speaks: `/ping`, GET and POST `/` with the query in the URL, the body or a multipart form, `param_*` placeholders,
settings, `database`, sessions, every input and output format of the engine, bodies compressed with gzip, deflate, lz4
or zstd, users by header, Basic or URL, and errors with `X-ClickHouse-Exception-Code`. It answers uncompressed (loopback).
What it does not know: tables, chDB (`chdb_engine.py`), processes (`embedded.py`). External data tables are refused.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from foundry.errors import MetricsRefused
from foundry.metrics.chdb_engine import Answer, Statement
from foundry.metrics.http_request import Head, credentials, head, output_format, refused, statement

Scope = MutableMapping[str, Any]  # why: ASGI's own definition
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]  # why: ASGI's own definition
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]  # why: ASGI's own definition
Headers = list[tuple[bytes, bytes]]

AUTHENTICATION_FAILED = 516
TOO_LARGE_STRING_SIZE = 131
MAX_BODY_BYTES = 256 * 1024 * 1024
READERS = 4
WRITERS = 2

_BAD_INPUT = (
    6,
    7,
    20,
    26,
    27,
    32,
    33,
    34,
    36,
    38,
    39,
    41,
    42,
    43,
    44,
    53,
    62,
    69,
    70,
    72,
    89,
    117,
    130,
    271,
    321,
    349,
    456,
    457,
)
_UNKNOWN_THING = (46, 47, 50, 56, 60, 63, 73, 81, 115, 372)
_STATUSES: Mapping[int, int] = {
    **dict.fromkeys(_BAD_INPUT, 400),
    **dict.fromkeys(_UNKNOWN_THING, 404),
    AUTHENTICATION_FAILED: 403,
    TOO_LARGE_STRING_SIZE: 413,
    48: 501,  # NOT_IMPLEMENTED
    159: 408,  # TIMEOUT_EXCEEDED
}
"""ClickHouse's own mapping of error codes to statuses (src/Server/HTTP/exceptionCodeToHTTPStatus.cpp); 500 otherwise."""


class Runner(Protocol):
    """What runs a statement, blocking: `chdb_engine.Engine`."""

    def run(self, statement: Statement) -> Answer:
        """Raises MetricsRefused."""
        ...


class ClickHouseHttp:
    """The application. Statements run on worker threads, so that `/ping` is answered while they do."""

    def __init__(self, engine: Runner, *, user: str, password: str) -> None:
        self._engine = engine
        self._user = user.encode()
        self._password = password.encode()
        self._readers = ThreadPoolExecutor(READERS, "chdb-read")
        self._writers = ThreadPoolExecutor(WRITERS, "chdb-write")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            raise refused(48, f"protocol {scope['type']} is not spoken here: use HTTP")
        if scope["path"] == "/ping" or (
            scope["path"] == "/" and scope["method"] == "GET" and not scope["query_string"]
        ):
            await _respond(send, 200, b"Ok.\n", [])
            return
        request = head(scope["method"], scope["query_string"], scope["headers"])
        query_id = request.url.get("query_id") or str(uuid.uuid4())
        try:
            await self._answer(request, scope["path"], query_id, receive, send)
        except MetricsRefused as error:
            await _respond_error(send, error, query_id)

    def close(self) -> None:
        """Wait for the statements that run."""
        self._readers.shutdown()
        self._writers.shutdown()

    async def _answer(self, request: Head, path: str, query_id: str, receive: Receive, send: Send) -> None:
        self._authenticate(request)
        if path != "/":
            await _respond(send, 404, f"There is no handle {path}\n".encode(), [])
            return
        body = await _body(receive)
        if body is None:
            return
        loop = asyncio.get_running_loop()
        asked = await loop.run_in_executor(self._readers, statement, request, body)
        pool = self._readers if asked.data is None else self._writers
        answer = await loop.run_in_executor(pool, self._engine.run, asked)
        headers = [
            (b"x-clickhouse-query-id", query_id.encode()),
            (b"x-clickhouse-summary", json.dumps(answer.summary).encode()),
            (b"x-clickhouse-server-display-name", b"foundry-embedded"),
            (b"x-clickhouse-timezone", b"UTC"),
        ]
        if (format_name := output_format(asked)) is not None:
            headers.append((b"x-clickhouse-format", format_name.encode()))
        await _respond(send, 200, answer.body, headers)

    def _authenticate(self, request: Head) -> None:
        given = credentials(request)
        user_ok = hmac.compare_digest(given.user.encode(), self._user)
        password_ok = hmac.compare_digest(given.password.encode(), self._password)
        if not (user_ok and password_ok):
            raise refused(
                AUTHENTICATION_FAILED,
                f"{given.user}: Authentication failed: password is incorrect, or there is no user with such name"
                " (the secret is clickhouse.password). (AUTHENTICATION_FAILED)",
            )


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when the client left before its end: a cut-off INSERT must not run."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise refused(
                TOO_LARGE_STRING_SIZE, f"the body exceeds {MAX_BODY_BYTES} bytes: send smaller batches"
            )
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _respond_error(send: Send, error: MetricsRefused, query_id: str) -> None:
    code = error.store_code or 1002  # UNKNOWN_EXCEPTION
    headers = [
        (b"x-clickhouse-exception-code", str(code).encode()),
        (b"x-clickhouse-query-id", query_id.encode()),
        (b"content-type", b"text/plain; charset=UTF-8"),
    ]
    await _respond(send, _STATUSES.get(code, 500), (error.message + "\n").encode(), headers)
