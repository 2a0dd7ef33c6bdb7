"""uvicorn's HTTP protocol with one difference: the head of an answer travels with the first bytes of its body.

uvicorn writes the head and the body apart, and uvloop turns each write into a system call and a packet at once, which wakes
HAProxy and then the caller twice. Here the head waits for what follows it, at most until the event loop's next turn, so
nothing is late. Measured in docs/performance.md. What it does not know: the application.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 "


class _Joining:
    """An asyncio transport that holds back a response head for the write that follows."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    if not TYPE_CHECKING:  # everything but `write` and `close` is the transport's own

        def __getattr__(self, name: str) -> object:
            return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write `data` behind a held head; hold it if it is a head itself."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and data.endswith(b"\r\n\r\n"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Close after everything that was written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class JoinedWrites(HttpToolsProtocol):
    """One connection to the server."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        """asyncio's callback."""
        super().connection_made(
            cast("asyncio.Transport", _Joining(transport, self.loop))
        )  # same methods, no common base


def install() -> None:
    """Let servers that this process starts from now on use it: Ray Serve asks uvicorn for the protocol named "auto"."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{JoinedWrites.__name__}"
