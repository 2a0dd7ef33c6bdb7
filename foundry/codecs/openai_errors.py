"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code", "request_id"}}`.

What it does not know: which endpoint failed, HTTP.
"""

from __future__ import annotations

import msgspec

from foundry.errors import FoundryError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_encoder = msgspec.json.Encoder()


def error_type(status: int) -> str:
    """OpenAI's `type` for an HTTP status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def error_body(error: FoundryError, request_id: str) -> bytes:
    """One error as a JSON body."""
    return _encoder.encode(
        {
            "error": {
                "message": error.message,
                "type": error_type(error.status),
                "param": error.param,
                "code": error.code,
                "request_id": request_id,
            }
        }
    )


def error_event(error: FoundryError, request_id: str) -> bytes:
    """One error as the terminal event of a stream."""
    return b"data: " + error_body(error, request_id) + b"\n\n"
