"""What a client saw of one request: through its SDK, and underneath it the bytes themselves.

What it does not know: protocols, the gateway.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import httpx2

from tests.gateway.conformance.cells import Cell
from tests.gateway.conformance.money import Counts

REQUEST_ID = "x-request-id"


@dataclass
class Wired:
    """One exchange underneath the SDK."""

    request_bytes: int
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    ended: bool = False
    """The answer came to its end."""


@dataclass
class Seen:
    """One answer as the caller's program has it."""

    text: str = ""
    usage: Counts | None = None
    """As the protocol tells it, by column of the usage record; None: not told."""
    error_code: str = ""
    error_message: str = ""
    left: bool = False
    """The caller went away."""

    def stops(self, cell: Cell, words: int) -> bool:
        """Whether the caller leaves now, having got so many words."""
        self.left = cell.scenario == "abort" and words >= cell.words
        return self.left


class _Teed(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, wired: Wired) -> None:
        self._stream = stream
        self._wired = wired

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            self._wired.body += data
            yield data
        self._wired.ended = True

    async def aclose(self) -> None:
        await self._stream.aclose()


class Tee(httpx2.AsyncBaseTransport):
    """A transport that remembers what passes, by request id."""

    def __init__(self) -> None:
        self._inner = httpx2.AsyncHTTPTransport()
        self.wired: dict[str, Wired] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        wired = self.wired[request.headers[REQUEST_ID]] = Wired(len(await request.aread()))
        response = await self._inner.handle_async_request(request)
        wired.status, wired.headers = response.status_code, response.headers
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Teed(response.stream, wired),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()
