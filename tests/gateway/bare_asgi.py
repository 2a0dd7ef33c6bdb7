"""Calls an ASGI app with whatever request is wanted, well-formed or not, without a server or a client library between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the app sent."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def call(
    app: Any,
    method: str,
    path: str,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: Sequence[bytes] = (b"",),
    query: bytes = b"",
    leaves: bool = False,
) -> Reply:
    """One request whose body comes in these pieces. leaves: the caller goes away instead of sending the last one."""
    messages = [
        {"type": "http.request", "body": piece, "more_body": place < len(body) - 1 or leaves}
        for place, piece in enumerate(body)
    ]
    if leaves:
        messages.append({"type": "http.disconnect"})
    sent: list[dict[str, Any]] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode("utf-8", "surrogateescape"), "query_string": query, "root_path": "",
        "headers": list(headers), "client": ("127.0.0.1", 40000), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    await app(scope, receive, send)
    gone.set()
    if not sent:
        return Reply(0, {}, b"")
    body_out = b"".join(message.get("body", b"") for message in sent[1:])
    return Reply(sent[0]["status"], dict(sent[0]["headers"]), body_out)
