"""A vendor that answers with what a test has written down: one recorded exchange per model name.

An answer is a status, a content type and the pieces of its body; after the last piece the connection ends as the test says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True)
class Recorded:
    """One answer."""

    pieces: tuple[bytes, ...]
    content_type: str = "application/json"
    status: int = 200
    breaks: bool = False
    """Close the connection after the last piece without ending the answer."""


@dataclass
class Received:
    """One request as it came."""

    path: str
    content_type: str
    body: bytes
    authorization: str


@dataclass
class MediaUpstream:
    """Start with `start`, stop with `stop`; `url` is its root; `answers` by a word in the request's body."""

    answers: dict[str, Recorded]
    received: list[Received] = field(default_factory=list[Received])
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = request.headers
        self.received.append(
            Received(request.path, headers["content-type"], body, headers.get("authorization", ""))
        )
        recorded = next(answer for word, answer in self.answers.items() if word.encode() in body)
        response = web.StreamResponse(status=recorded.status, headers={"content-type": recorded.content_type})
        await response.prepare(request)
        for piece in recorded.pieces:
            await response.write(piece)
        if recorded.breaks and request.transport is not None:
            request.transport.close()
        return response
