"""Multipart bodies as clients send them, and WAV files of silence."""

from __future__ import annotations

import io
import wave

BOUNDARY = "----client-boundary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
File = tuple[str, bytes]
"""Name and content."""


def form(*fields: tuple[str, str | File], boundary: str = BOUNDARY, closed: bool = True) -> bytes:
    """A body of these parts, in order."""
    parts = list[bytes]()
    for name, value in fields:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        if isinstance(value, tuple):
            head += f'; filename="{value[0]}"\r\nContent-Type: application/octet-stream'
            content = value[1]
        else:
            content = value.encode()
        parts.append(head.encode() + b"\r\n\r\n" + content + b"\r\n")
    return b"".join(parts) + (f"--{boundary}--\r\n".encode() if closed else b"")


def silence(seconds: float, rate_hz: int = 16_000) -> bytes:
    """A WAV file, 16 bit, mono."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(bytes(2 * round(seconds * rate_hz)))
    return made.getvalue()
