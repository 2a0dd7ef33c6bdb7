"""Files that callers keep with us, as OpenAI's API shows them.

What it does not know: where the bytes are (`gateway/stateful/`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

FilePurpose = Literal["batch", "batch_output", "user_data", "assistants", "vision", "evals"]
UPLOAD_PURPOSES = ("batch", "user_data", "assistants", "vision", "evals")
"""What a caller may upload; `batch_output` files are made by batches."""
MIN_EXPIRY_S, MAX_EXPIRY_S = 3600, 2_592_000
"""Bounds of `expires_after[seconds]`: an hour, thirty days (OpenAI's)."""


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one file."""

    id: str
    """`file-` and 32 hex digits, sorting by creation time."""
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    """Unix seconds."""
    expires_at: int | None = None
    """Unix seconds; gone from then on."""
    filename: str
    purpose: FilePurpose
    status: Literal["processed"] = "processed"
    """Always: there is nothing to wait for."""
    status_details: None = None

    def expired(self, now_s: float) -> bool:
        """Whether it is gone."""
        return self.expires_at is not None and self.expires_at <= now_s
