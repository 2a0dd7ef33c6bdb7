"""Errors in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

What it does not know: which endpoint failed, HTTP.
"""

from __future__ import annotations

import msgspec

from foundry.codecs.base import Told
from foundry.codecs.sse import named_event
from foundry.errors import FoundryError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_WORDS = 500
"""Characters of an unreadable error body that are quoted."""


class ErrorWords(msgspec.Struct):
    """Anthropic's error object."""

    message: str = "an error without a message"
    type: str = "api_error"


class _Failure(msgspec.Struct):
    error: ErrorWords


_failure = msgspec.json.Decoder(_Failure)
_encoder = msgspec.json.Encoder()


def error_type(status: int) -> str:
    """Anthropic's `type` for an HTTP status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def _body(error: FoundryError, request_id: str) -> dict[str, object]:
    return {
        "type": "error",
        "error": {
            "type": error_type(error.status),
            "message": error.message,
            "code": error.code,
            "param": error.param,
        },
        "request_id": request_id,
    }


def error_body(error: FoundryError, request_id: str) -> bytes:
    """One error as a JSON body."""
    return _encoder.encode(_body(error, request_id))


def error_event(error: FoundryError, request_id: str) -> bytes:
    """One error as the terminal event of a stream."""
    return named_event("error", _body(error, request_id))


def told(body: bytes) -> Told:
    """The words of an error answer in Anthropic's shape, or the beginning of whatever came."""
    try:
        return Told(_failure.decode(body).error.message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Told(body[:_WORDS].decode(errors="replace").strip())
