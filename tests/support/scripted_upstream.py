"""A scripted OpenAI-compatible upstream: the model name says how it behaves.

    ok            answers; streams 3 content chunks; usage when asked
    no-usage      the same, without a word about usage
    fat-final     the last content chunk carries the usage (some vendors do that)
    die-before    closes the connection without an answer
    die-mid       closes the connection after 2 content chunks
    error-mid     reports an error inside the stream after 2 content chunks
    die-at-last   closes the connection behind the finish reason, before usage and end marker
    stall         falls silent after 2 content chunks
    gated         answers like ok once `gate` is set
    endless       streams until the caller goes away
    slow          never answers
    paced         answers after 0.2 s; streams 150 content chunks, one every 10 ms
    status-NNN    answers with that HTTP status and an OpenAI-shaped error

`script` holds behaviours for the next requests, before the model's name counts again: `["status-503", "ok"]` fails once.
A chat that asks it to go on from an assistant's words ("... w1 w2") goes on with w3. It records
every request it got (`requests`) and how many streams were cut by the other side (`cut`).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PROMPT_TOKENS, OUTPUT_TOKENS, CACHED_TOKENS = 11, 3, 4
PACED_TOKENS = 150


@dataclass
class ScriptedUpstream:
    """Start with `start`, stop with `stop`; `url` is its root."""

    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    script: list[str] = field(default_factory=list)
    retry_after: str = "7"
    """Sent with every scripted status; empty: not sent."""
    alive: bool = True
    """What `/health` and `/v1/models` say."""
    probes: int = 0
    url: str = ""
    fail_first: int = 0
    """So many chat requests are answered 503 (Retry-After 0) before the model's own behaviour."""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/health", self._probed)
        app.router.add_get("/v1/models", self._probed)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _wait_for(self, event: asyncio.Event) -> None:
        """Without an answer; notes a caller that goes away."""
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.cut.set()
            raise

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        body = await self._note(request)
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [
            {"object": "embedding", "index": i, "embedding": [0.5, 0.5 if "far" in text else -0.5]}
            for i, text in enumerate(inputs)
        ]
        usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
        return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": usage})

    async def _probed(self, _request: web.Request) -> web.StreamResponse:
        self.probes += 1
        return web.json_response({}, status=200 if self.alive else 503)

    async def _note(self, request: web.Request) -> dict[str, Any]:
        body = await request.json()
        self.requests.append(({k.lower(): v for k, v in request.headers.items()}, body))
        return body

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._note(request)
        if self.fail_first > 0:
            self.fail_first -= 1
            return web.json_response({"error": {"message": "busy"}}, status=503, headers={"Retry-After": "0"})
        model: str = self.script.pop(0) if self.script else body["model"]
        if model == "die-before":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if model == "slow":
            await self._wait_for(asyncio.Event())
        if model == "gated":
            await self._wait_for(self.gate)
        if model.startswith("status-"):
            status = int(model.removeprefix("status-"))
            error = {"message": f"scripted {status}", "type": "x", "param": "temperature", "code": status}
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return web.json_response({"error": error}, status=status, headers=headers)
        if body.get("stream"):
            return await self._stream(request, body, model)
        if model == "paced":
            await asyncio.sleep(0.2)  # the time that the scripted engine takes
        answer: dict[str, Any] = {
            "id": "x", "object": "chat.completion", "created": 1, "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two three"}, "finish_reason": "stop"}],
        }  # fmt: skip
        if model != "no-usage":
            answer["usage"] = _usage(OUTPUT_TOKENS)
        return web.json_response(answer)

    async def _stream(self, request: web.Request, body: dict[str, Any], model: str) -> web.StreamResponse:
        options = body.get("stream_options") or {}
        tell = bool(options.get("include_usage")) and model != "no-usage"
        running = tell and bool(options.get("continuous_usage_stats"))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_event({"role": "assistant", "content": ""}, _usage(0) if running else None))
        count = _said_already(body)
        first = count
        try:
            while count < (PACED_TOKENS if model == "paced" else OUTPUT_TOKENS) or model == "endless":
                count += 1
                told = running or (model == "fat-final" and tell and count == OUTPUT_TOKENS)
                await response.write(
                    _event({"content": f"w{count} "}, _usage(count - first) if told else None)
                )
                if count == 2 and model == "stall":
                    await asyncio.Event().wait()
                if count == 2 and model == "die-mid":
                    assert request.transport is not None
                    request.transport.close()
                    return response
                if count == 2 and model == "error-mid":
                    await response.write(
                        b'data: {"error":{"message":"scripted failure","code":500}}\n\ndata: [DONE]\n\n'
                    )
                    return response
                await asyncio.sleep(
                    0.01 if model in {"endless", "paced"} else 0
                )  # the pace of the scripted engine
        except (ConnectionResetError, asyncio.CancelledError):
            self.cut.set()
            raise
        if model == "die-at-last":
            assert request.transport is not None
            await response.write(_event({}, None, finish="stop"))
            request.transport.close()
            return response
        if tell and model != "fat-final":
            await response.write(_event(None, _usage(count - first)))
        await response.write(b"data: [DONE]\n\n")
        return response


def _usage(output: int) -> dict[str, Any]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": output,
        "total_tokens": PROMPT_TOKENS + output,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
    }


def _said_already(body: dict[str, Any]) -> int:
    """Words that the request wants gone on from."""
    turns: list[dict[str, Any]] = body.get("messages") or []
    if turns and turns[-1].get("role") == "assistant":
        return len(turns[-1]["content"].split())
    return 0


def _event(delta: dict[str, Any] | None, usage: dict[str, Any] | None, finish: str | None = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
    }
    if usage is not None:
        chunk["usage"] = usage
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
