"""AWS Bedrock's wire as a script: Converse, ConverseStream and embeddings, in AWS's own binary framing and checked against
AWS's own service model.

What it does not know: sockets (`scripted_vendor.py`), our own code for this wire.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote
from zlib import crc32

from botocore.session import Session
from botocore.validate import ParamValidator

from foundry.types.usage import UsageCounts
from tests.support.sigv4 import verify_signature
from tests.support.vendor_script import (
    AWS_KEY_ID,
    AWS_SECRET,
    CACHED,
    INPUT,
    OUTPUT,
    THOUGHT,
    WORDS,
    WRITTEN,
    Received,
    Told,
)


class Bedrock:
    """Converse, ConverseStream, InvokeModel of embedding models."""

    provider = "bedrock"
    environment = (
        ("AWS_ACCESS_KEY_ID", AWS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", AWS_SECRET),
    )
    counts = UsageCounts(
        input_tokens=INPUT, cached_input_tokens=CACHED, cache_write_tokens=WRITTEN, output_tokens=OUTPUT
    )

    def refuses(self, received: Received) -> tuple[int, str] | None:
        wrong = verify_signature(
            "POST", received.url, received.headers, received.raw, key_id=AWS_KEY_ID, secret=AWS_SECRET
        )
        if wrong is not None:
            return 403, f"The request signature we calculated does not match: {wrong}"
        if received.path.endswith("/invoke"):
            return None
        report = ParamValidator().validate(
            {"modelId": self.model(received), **received.body}, converse_shape()
        )
        return (400, report.generate_report()) if report.has_errors() else None

    def model(self, received: Received) -> str:
        return unquote(received.path.split("/")[2])

    def streams(self, received: Received) -> bool:
        return received.path.endswith("/converse-stream")

    def stream_type(self, received: Received) -> str:
        return "application/vnd.amazon.eventstream"

    def frames_before_words(self, received: Received) -> int:
        return 3

    def whole(self, received: Received, told: Told | None) -> dict[str, Any]:
        if received.path.endswith("/invoke"):
            return self._embeddings(received.body, told)
        thought = {"reasoningContent": {"reasoningText": {"text": THOUGHT, "signature": "c2ln"}}}
        message = {"role": "assistant", "content": [thought, {"text": "".join(WORDS)}]}
        usage = {"usage": self._usage(told)} if told else {}
        return {
            "output": {"message": message},
            "stopReason": "end_turn",
            **usage,
            "metrics": {"latencyMs": 1},
        }

    def frames(self, received: Received, told: Told | None, *, fat: bool) -> list[bytes]:
        thought = {"reasoningContent": {"text": THOUGHT}}
        usage = {"usage": self._usage(told)} if told else {}
        return [
            event("messageStart", {"role": "assistant"}),
            event("contentBlockDelta", {"contentBlockIndex": 0, "delta": thought}),
            event("contentBlockStop", {"contentBlockIndex": 0}),
            *(
                event("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": word}})
                for word in WORDS
            ),
            event("contentBlockStop", {"contentBlockIndex": 1}),
            event("messageStop", {"stopReason": "end_turn"}),
            event("metadata", {**usage, "metrics": {"latencyMs": 1}}),
        ]

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"message": message}

    def error_frames(self, received: Received, message: str) -> list[bytes]:
        return [
            event_frame(
                {":message-type": "exception", ":exception-type": "modelStreamErrorException"},
                {"message": message},
            )
        ]

    def _usage(self, told: Told) -> dict[str, int]:
        cache = {"cacheReadInputTokens": told.cached, "cacheWriteInputTokens": told.written}
        total = told.input + told.output
        return {"inputTokens": told.plain, "outputTokens": told.output, "totalTokens": total, **cache}

    def _embeddings(self, body: dict[str, Any], told: Told | None) -> dict[str, Any]:
        if "inputText" in body:
            return {"embedding": [0.5, -0.5], **({"inputTextTokenCount": told.input} if told else {})}
        return {"embeddings": {"float": [[0.5, -0.5] for _ in body["texts"]]}, "id": "e1"}


@cache
def converse_shape() -> Any:
    """What Converse takes, from AWS's own service model (ConverseStream takes the same)."""
    return Session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape


def event(name: str, payload: Mapping[str, Any]) -> bytes:
    """One event of AWS's binary stream."""
    return event_frame(
        {":message-type": "event", ":event-type": name, ":content-type": "application/json"}, payload
    )


def event_frame(headers: Mapping[str, str], payload: Mapping[str, Any]) -> bytes:
    """A frame: lengths, their checksum, string headers, payload, checksum of all."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    message = prelude + struct.pack(">I", crc32(prelude)) + head + body
    return message + struct.pack(">I", crc32(message))
