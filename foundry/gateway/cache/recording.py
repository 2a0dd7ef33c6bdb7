"""An answer, remembered while it is sent. What it does not know: what becomes of it (`answers.py`)."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from foundry.codecs.base import JSON
from foundry.gateway.delivery import Send


class Recording:
    """Stands in for `send` and remembers what passes, up to `max_bytes`."""

    __slots__ = ("_max_bytes", "_parts", "_send", "_size", "_whole", "content_type", "streamed")

    def __init__(self, send: Send, max_bytes: int) -> None:
        self._send = send
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._whole = False
        self.content_type = JSON
        self.streamed = False
        """It came without a length: as a stream's events."""

    # Any: the ASGI specification's own type
    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        """See the ASGI specification."""
        if message["type"] == "http.response.start":
            names = dict(message["headers"])
            self.content_type = names.get(b"content-type", b"").decode("latin-1")
            self.streamed = b"content-length" not in names
        else:
            body: bytes = message.get("body", b"")
            self._size += len(body)
            if self._size <= self._max_bytes:
                self._parts.append(body)
            else:
                self._parts.clear()
            self._whole = not message.get("more_body", False)
        await self._send(message)

    def body(self) -> bytes | None:
        """The whole answer; None when it did not end, or is larger than what is kept."""
        return b"".join(self._parts) if self._whole and self._size <= self._max_bytes else None
