"""Logging and ids: structured lines on stderr, one request id from edge to engine.

What it does not know: which process it is in; each calls `configure` once with its name.
"""

from __future__ import annotations

import logging
import sys
import time
from secrets import token_hex

import structlog

_REQUEST_ID_CHARS = 128


def configure(service: str, level: str = "INFO") -> None:
    """Send this process's log lines to stderr as JSON, each with `service`, `level`, `ts` (UTC, ISO 8601)."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Not `sys.stderr`: Serve replaces it in its replicas by one that holds a thousand lines back.
        logger_factory=structlog.WriteLoggerFactory(file=sys.__stderr__ or sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def new_id(prefix: str) -> str:
    """A unique id that sorts by creation time, e.g. "req_0193e4c5a7b2f1d0…" (48 bits of milliseconds, 80
    random bits)."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{token_hex(10)}"


def accepted_request_id(raw: bytes) -> str | None:
    """The caller's own request id if it is short and printable ASCII without spaces, else None."""
    if not raw or len(raw) > _REQUEST_ID_CHARS or not raw.isascii():
        return None
    text = raw.decode("ascii")
    return text if text.isprintable() and " " not in text else None
