"""The edge of an engine replica without an engine: token, prefix, clients that leave."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from foundry.errors import ProcessError
from foundry.types.deployment import DeploymentSpec, Task
from serve_apps.engine_edge import EngineEdge, warm_up

TOKEN = "secret-token"


async def echo_path(scope: Scope, receive: Receive, send: Send) -> None:
    body = f"{scope['path']}|{scope.get('root_path', '')}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def client(root: str = "") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=EngineEdge(echo_path, TOKEN), root_path=root)
    return httpx.AsyncClient(transport=transport, base_url="http://engine")


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer wrong", TOKEN, f"bearer {TOKEN}", f"Bearer {TOKEN} "]
)
async def test_every_path_but_health_demands_the_token(value: str | None) -> None:
    async with client() as engine:
        headers = {} if value is None else {"authorization": value}
        answer = await engine.get("/v1/models", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert (await engine.get("/health", headers=headers)).status_code == 200


async def test_the_route_prefix_is_taken_out() -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with client("/engines/chat") as engine:
        assert (await engine.get("/engines/chat/v1/models", headers=headers)).text == "/v1/models|"
        assert (await engine.get("/engines/chat", headers=headers)).text == "/|"
        assert (await engine.get("/engines/chat/health")).text == "/health|"
        assert (await engine.get("/engines/chatter", headers=headers)).text == "/engines/chatter|"


async def test_a_cancelled_request_lets_the_engine_see_the_client_go() -> None:
    """Serve cancels the request when its client leaves; the engine's handler must end by `http.disconnect`."""
    started, left = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        seen.append((await receive())["type"])

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "path": "/health", "headers": []}
    request = asyncio.create_task(EngineEdge(handler, TOKEN)(scope, receive, send))
    await started.wait()
    left.set()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert seen == ["http.disconnect"]


async def test_a_replica_whose_first_request_fails_is_not_ready() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"out of memory"})

    spec = DeploymentSpec(name="m", model="hf://a/b", served_model_name="m", task=Task.EMBED)
    with pytest.raises(ProcessError, match="/v1/embeddings failed with 500: out of memory"):
        await warm_up(broken, spec)
