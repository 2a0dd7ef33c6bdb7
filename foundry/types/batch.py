"""Batches as OpenAI's API shows them, and the lines of their files.

What it does not know: who runs them (`gateway/stateful/batches/`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
ENDED: frozenset[BatchStatus] = frozenset({"failed", "completed", "expired", "cancelled"})
WINDOW_S = 24 * 3600
"""The one completion window that there is, "24h"."""
MAX_LINES = 50_000
MAX_INPUT_BYTES = 200 * 1024 * 1024
BATCHED_PROTOCOLS = frozenset(
    {
        "chat", "classify", "completions", "embeddings", "messages", "moderations", "rerank", "responses", "score",
    }
)  # fmt: skip
"""Protocols (`Codec.name`) whose requests and answers are one JSON object each."""


class LineError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with an input file; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(msgspec.Struct, frozen=True, kw_only=True):
    """Why validation failed: the first hundred faults."""

    object: Literal["list"] = "list"
    data: tuple[LineError, ...]


class RequestCounts(msgspec.Struct, frozen=True):
    """Lines by how they ended; `failed` ones are in the error file."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class InputDetails(msgspec.Struct, frozen=True):
    """Of the input tokens."""

    cached_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    """Of the output tokens."""

    reasoning_tokens: int = 0


class BatchUsage(msgspec.Struct, frozen=True):
    """Tokens of all lines together, as the targets told them."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: InputDetails = InputDetails()
    output_tokens_details: OutputDetails = OutputDetails()


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch; all times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    """Public path of every line, e.g. "/v1/chat/completions"."""
    model: str | None = None
    """The route of the first line; lines may name different ones."""
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: BatchStatus
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    """Lines that are not done by then are not done at all."""
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    usage: BatchUsage = BatchUsage()
    metadata: dict[str, str] | None = None


class BatchOwner(msgspec.Struct, frozen=True, kw_only=True):
    """On whose key a batch runs. Not shown to anybody."""

    project_id: str
    key_id: str
    key_hash: str
    """The keyed hash by which the snapshot knows the key: a revoked key is not found, and the lines fail."""
    output_expires_s: int | None = None
    """Seconds after which the output and error files go; None: never."""


class BatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an input file, checked."""

    number: int
    """From 1."""
    custom_id: str
    model: str
    body: bytes


class LineResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one line ended, as it lies in a part until the files are made."""

    number: int
    succeeded: bool
    text: msgspec.Raw
    """The line of the output or error file."""
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
