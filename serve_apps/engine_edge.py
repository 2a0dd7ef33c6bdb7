"""The edge of an engine replica, raw ASGI: the engine token, the path prefix, clients that leave, the first request.

What it does not know: Ray, engines, who calls (the gateway; every path but `/health` demands the token).
"""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import wave
from collections.abc import Callable
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from foundry.errors import ProcessError
from foundry.types.deployment import DeploymentSpec, Task

_OPEN_PATHS = frozenset({"/health"})
_WARM_UP_TIMEOUT_S = 300.0
_RATE_HZ = 16_000
_ABORT_GRACE_S = 5.0
"""How long the engine's app may take to notice that its client left, before it is cancelled."""


class EngineEdge:
    """Passes to the engine's app what carries the token; answers 401 in OpenAI's shape to the rest."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. The engine's app sees paths as if it were mounted at the root."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _unmounted(scope)
        if scope["path"] not in _OPEN_PATHS and not self._authorised(scope):
            await _refuse(send)
            return
        await _outlast_cancellation(asyncio.create_task(_run(self._app, scope, receive, send)))

    def _authorised(self, scope: Scope) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, self._expected)


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _outlast_cancellation(task: asyncio.Task[None]) -> None:
    """Await the engine's app without passing on a cancellation at once.

    When a client leaves, Serve cancels the request. vLLM's handlers of unstreamed requests lose their inner task then and generate
    to the end for nobody; they do stop when they receive `http.disconnect`, which is already on its way to them.
    """
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait({task}, timeout=_ABORT_GRACE_S)
        task.cancel()
        raise


def _unmounted(scope: Scope) -> Scope:
    """Serve leaves its route prefix in the path and names it in `root_path`: take it out of both."""
    root = scope.get("root_path", "")
    if not root:
        return scope
    path = scope["path"]
    path = (path.removeprefix(root) or "/") if path == root or path.startswith(f"{root}/") else path
    return {**scope, "root_path": "", "path": path, "raw_path": path.encode()}


async def _refuse(send: Send) -> None:
    error = {
        "message": "this engine answers only to the platform's gateway: send the instance's engine token",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", b"Bearer"),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def warm_up(app: ASGIApp, spec: DeploymentSpec) -> None:
    """One small request through the engine's own app, so that no caller pays for first-time work.

    Raises ProcessError with the engine's words when it cannot answer: such a replica must not become ready.
    """
    path, request = _FIRST_REQUESTS[spec.task](spec.served_model_name)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://engine", timeout=_WARM_UP_TIMEOUT_S
    ) as client:
        answer = await client.post(path, **request)
    if not answer.is_success:
        raise ProcessError(
            f"{spec.engine} started but its first request to {path} failed with {answer.status_code}: {answer.text[:500]}"
        )


FirstRequest = tuple[str, dict[str, Any]]  # Any: keyword arguments of httpx.AsyncClient.post


def _generate(model: str) -> FirstRequest:
    return "/v1/completions", {"json": {"model": model, "prompt": "warm-up", "max_tokens": 2}}


def _embed(model: str) -> FirstRequest:
    return "/v1/embeddings", {"json": {"model": model, "input": "warm-up"}}


def _score(model: str) -> FirstRequest:
    return "/score", {"json": {"model": model, "text_1": "warm", "text_2": "up"}}


def _classify(model: str) -> FirstRequest:
    return "/classify", {"json": {"model": model, "input": "warm-up"}}


def _transcribe(model: str) -> FirstRequest:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        file.writeframes(bytes(2 * _RATE_HZ))  # a second of silence
    return "/v1/audio/transcriptions", {
        "data": {"model": model},
        "files": {"file": ("silence.wav", sound.getvalue())},
    }


def _speak(model: str) -> FirstRequest:
    return "/v1/audio/speech", {"json": {"model": model, "input": "warm-up", "voice": "default"}}


_FIRST_REQUESTS: dict[Task, Callable[[str], FirstRequest]] = {
    Task.GENERATE: _generate,
    Task.EMBED: _embed,
    Task.RERANK: _score,
    Task.CLASSIFY: _classify,
    Task.MODERATE: _classify,
    Task.TRANSCRIBE: _transcribe,
    Task.SPEAK: _speak,
}
"""No engine of ours makes images."""
