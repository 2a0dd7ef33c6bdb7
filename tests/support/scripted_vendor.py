"""A scripted vendor per wire: the model's name says how it behaves, whole and streamed alike.

    ok            answers "one two three", and tells tokens of every kind that the wire knows
    plain         the same, with one kind of input and of output tokens
    no-usage      the same, without a word about usage
    fat-final     the last words of a stream carry the usage (wires of OpenAI's kind)
    hold-N        falls silent after N words of a stream; never answers otherwise
    ...-plain     as ..., with one kind of tokens and no thoughts
    die-before    closes the connection without an answer
    die-mid       closes the connection in the middle of its answer (after two words of a stream)
    die-at-last   the same before the last event of a stream (the last byte of a whole answer)
    error-mid     reports an error inside the stream after two words (a whole answer is an error 500)
    status-NNN    answers with that HTTP status, Retry-After 7 and an error in the vendor's own shape

    vendor = ScriptedVendor("gemini")
    await vendor.start()
    ... vendor.url, vendor.requests, vendor.environment, vendor.provider, vendor.counts ...
    await vendor.stop()

It refuses requests that its vendor would refuse: wrong authentication (AWS signatures are verified), members that the vendor does
not know. What it tells of usage, in our terms, is `counts`. The wires themselves are in `vendor_scripts.py`.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from foundry.types.usage import UsageCounts
from tests.support.vendor_script import ALL_KINDS, ONE_KIND, Received, Script, Told
from tests.support.vendor_scripts import SCRIPTS

BEHAVIOURS = ("ok", "no-usage", "die-before", "die-mid", "die-at-last", "error-mid")
_FIELD = re.compile(rb'name="(\w+)"\r\n\r\n([^\r]*)\r\n')
_SECOND_WORD = 2


@dataclass
class ScriptedVendor:
    """One vendor on loopback; `wire` is a key of `SCRIPTS`."""

    wire: str
    requests: list[Received] = field(default_factory=list)
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the other side closed a stream early."""
    url: str = ""
    _runner: web.AppRunner | None = None

    @property
    def script(self) -> Script:
        return SCRIPTS[self.wire]

    @property
    def provider(self) -> str:
        """The row of vendors.toml that is spoken to."""
        return self.script.provider

    @property
    def environment(self) -> dict[str, str]:
        """Variables to set, so that the provider authenticates."""
        return dict(self.script.environment)

    @property
    def counts(self) -> UsageCounts:
        """What an answer tells (all behaviours that tell usage)."""
        return self.script.counts

    async def start(self) -> ScriptedVendor:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        received = Received(
            url=f"{self.url}{request.raw_path}",
            path=request.raw_path.partition("?")[0],
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            raw=raw,
            body=_body(request.content_type, raw),
        )
        self.requests.append(received)
        refusal = self.script.refuses(received)
        if refusal is not None:
            return self._error(*refusal)
        model = self.script.model(received)
        told, model = _told(model), model.removesuffix("-plain")
        if model == "die-before":
            return self._die(request)
        if model.startswith("status-"):
            return self._error(int(model.removeprefix("status-")), f"scripted {model}")
        if self.script.streams(received):
            return await self._stream(request, received, model, told)
        return await self._whole(request, received, model, told)

    async def _silence(self) -> None:
        """Until the other side closes."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cut.set()
            raise

    def _error(self, status: int, message: str) -> web.Response:
        body = self.script.error(status, message)
        return web.json_response(body, status=status, headers={"Retry-After": "7"})

    def _die(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _whole(
        self, request: web.Request, received: Received, model: str, told: Told | None
    ) -> web.StreamResponse:
        if model == "error-mid":
            return self._error(500, "scripted failure")
        if model.startswith("hold-"):
            await self._silence()
        body = json.dumps(self.script.whole(received, told)).encode()
        if model not in ("die-mid", "die-at-last"):
            return web.Response(body=body, content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2] if model == "die-mid" else body[:-1])
        assert request.transport is not None
        request.transport.close()
        return response

    def _frames(self, received: Received, model: str, told: Told | None) -> list[bytes]:
        frames = self.script.frames(received, told, fat=model == "fat-final")
        before = self.script.frames_before_words(received)
        if model == "die-mid":
            return frames[: before + _SECOND_WORD]
        if model == "die-at-last":
            return frames[:-1]
        if model == "error-mid":
            errors = self.script.error_frames(received, "scripted failure")
            return [*frames[: before + _SECOND_WORD], *errors]
        if model.startswith("hold-"):
            return frames[: before + int(model.removeprefix("hold-"))]
        return frames

    async def _stream(
        self, request: web.Request, received: Received, model: str, told: Told | None
    ) -> web.StreamResponse:
        frames = self._frames(received, model, told)
        response = web.StreamResponse(headers={"content-type": self.script.stream_type(received)})
        await response.prepare(request)
        try:
            for frame in frames:
                await response.write(frame)
                await asyncio.sleep(0)
        except (ConnectionResetError, asyncio.CancelledError):
            self.cut.set()
            raise
        if model.startswith("hold-"):
            await self._silence()
        if model in ("die-mid", "die-at-last"):
            assert request.transport is not None
            request.transport.close()
        return response


def _told(model: str) -> Told | None:
    if model == "no-usage":
        return None
    return ONE_KIND if model.endswith("plain") else ALL_KINDS


def _body(content_type: str, raw: bytes) -> dict[str, Any]:
    """JSON, or the plain fields of a form."""
    if content_type.startswith("multipart/"):
        return {name.decode(): value.decode() for name, value in _FIELD.findall(raw)}
    return json.loads(raw)


def scripted(*wires: str) -> list[ScriptedVendor]:
    """One of each, not started; all wires when none is named."""
    return [ScriptedVendor(wire) for wire in wires or tuple(SCRIPTS)]
