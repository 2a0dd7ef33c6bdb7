"""A ClickHouse HTTP request as a `Statement`: URL, headers and body taken apart. Pure functions.

What it does not know: sockets, ASGI, users' rights, how a statement runs.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

import lz4.frame
from backports import zstd

from foundry.errors import MetricsRefused
from foundry.metrics.chdb_engine import Statement

NOT_IMPLEMENTED = 48
SYNTAX_ERROR = 62
UNKNOWN_COMPRESSION_METHOD = 89
CANNOT_DECOMPRESS = 271

_TRANSPORT = frozenset(
    {
        "query", "user", "password", "database", "query_id", "default_format", "compress", "decompress", "buffer_size",
        "wait_end_of_query", "quota_key", "client_protocol_version", "role", "session_id", "session_timeout",
        "session_check", "close_session", "stacktrace",
    }
)  # fmt: skip
"""URL parameters that are not settings of the engine."""

_QUOTED = rb"""'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*\""""
_INSERT_WITH_DATA = re.compile(
    rb"\s*insert\s+into\b(?:(?!\b(?:select|values|with|from)\b)(?:[^'`\"]|" + _QUOTED + rb"))*?"
    rb"\bformat\s+(\w+)[ \t]*(?:\r?\n|[ \t]|;|$)",
    re.IGNORECASE | re.DOTALL,
)
_FORMAT_CLAUSE = re.compile(r"\bformat\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_RETURNS_ROWS = re.compile(
    r"[\s(]*(?:select|with|show|desc|describe|explain|exists|check|values)\b", re.IGNORECASE
)

_DECOMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": zstd.decompress,
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who says to be asking."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Head:
    """A request before its body is read."""

    method: str
    url: Mapping[str, str]
    """Decoded query-string parameters; the last of a name wins."""
    headers: Mapping[str, str]
    """Lower-case names."""

    def get(self, header: str, parameter: str, default: str = "") -> str:
        """A value that may come as a header or in the URL."""
        return self.headers.get(header) or self.url.get(parameter, default)


def head(method: str, query_string: bytes, headers: list[tuple[bytes, bytes]]) -> Head:
    """From ASGI's raw values."""
    url = dict(parse_qsl(query_string.decode("ascii", "replace"), keep_blank_values=True))
    return Head(
        method, url, {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    )


def credentials(request: Head) -> Credentials:
    """By Basic authentication, `X-ClickHouse-User`/`-Key`, or `user`/`password` in the URL; "default" without any."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return Credentials("", "")
        return Credentials(user, password)
    return Credentials(
        request.get("x-clickhouse-user", "user", "default"), request.get("x-clickhouse-key", "password")
    )


def statement(request: Head, body: bytes) -> Statement:
    """The statement that a request asks for. Raises MetricsRefused for what cannot be read."""
    values = dict(request.url)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        values |= _form(request.headers["content-type"], body)
        body = b""
    if values.get("decompress") == "1" or values.get("compress") == "1":
        raise refused(
            NOT_IMPLEMENTED, "ClickHouse's block compression is not spoken here: use HTTP compression"
        )
    settings = {
        name: value
        for name, value in values.items()
        if name not in _TRANSPORT and not name.startswith("param_")
    }
    if request.method == "GET":
        settings["readonly"] = "2"
    base = Statement(
        sql="",
        output_format=request.get("x-clickhouse-format", "default_format") or "TabSeparated",
        database=request.get("x-clickhouse-database", "database") or None,
        settings=settings,
        parameters={
            name.removeprefix("param_"): value for name, value in values.items() if name.startswith("param_")
        },
        session_id=values.get("session_id") or None,
        session_timeout_s=_seconds(values.get("session_timeout", "60")),
        session_must_exist=values.get("session_check") == "1",
    )
    return _with_sql(
        base, values.get("query", ""), _decompressed(request.headers.get("content-encoding", ""), body)
    )


def output_format(request: Statement) -> str | None:
    """The format that the answer comes in; None for a statement that returns no rows."""
    if request.data is not None or not _RETURNS_ROWS.match(request.sql):
        return None
    found = _FORMAT_CLAUSE.search(request.sql)
    return found[1] if found else request.output_format


def refused(code: int, text: str) -> MetricsRefused:
    """An error of the protocol's own, worded as ClickHouse words them."""
    return MetricsRefused(f"Code: {code}. DB::Exception: {text}.", store_code=code)


def _with_sql(base: Statement, query: str, body: bytes) -> Statement:
    """An INSERT with data is split into statement, format and data; anything else is text."""
    text = query.encode()
    found = _INSERT_WITH_DATA.match(text)
    if found is None and body:
        text = text + b"\n" + body if text else body
        body = b""
        found = _INSERT_WITH_DATA.match(text)
    if found is not None:
        sql = text[: found.start(1)].rstrip()[: -len("format")].decode().rstrip()
        return replace(base, sql=sql, data=text[found.end() :] + body, data_format=found[1].decode())
    try:
        sql = text.decode()
    except UnicodeDecodeError as error:
        raise refused(SYNTAX_ERROR, f"the query is not UTF-8: {error}") from error
    if not sql.strip():
        raise refused(SYNTAX_ERROR, "Syntax error: empty query")
    return replace(base, sql=sql)


def _decompressed(encoding: str, body: bytes) -> bytes:
    if not encoding or encoding == "identity" or not body:
        return body
    decompress = _DECOMPRESS.get(encoding)
    if decompress is None:
        known = ", ".join(_DECOMPRESS)
        raise refused(
            UNKNOWN_COMPRESSION_METHOD, f"Unknown compression method {encoding}: send one of {known}"
        )
    try:
        return decompress(body)
    except (OSError, EOFError, RuntimeError, zlib.error, zstd.ZstdError) as error:
        raise refused(CANNOT_DECOMPRESS, f"Cannot decompress the {encoding} body: {error}") from error


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """Text fields of a multipart form."""
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
    )
    fields: dict[str, str] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is not None:
            raise refused(
                NOT_IMPLEMENTED, f"external data table {name} is not supported: insert it into a table"
            )
        payload = part.get_payload(decode=True)
        fields[str(name)] = payload.decode() if isinstance(payload, bytes) else ""
    return fields


def _seconds(text: str) -> float:
    try:
        return min(float(text), 3600.0)
    except ValueError as error:
        raise refused(SYNTAX_ERROR, f"session_timeout={text} is not a number of seconds") from error
