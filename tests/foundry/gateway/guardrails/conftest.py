"""A gateway with guardrail profiles before an upstream that says back what it was told, in pieces of seven characters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from foundry.gateway.app import Gateway
from foundry.metrics import segments
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.guardrails import BlockRule, GuardEntry, GuardrailProfile
from foundry.types.money import Price
from foundry.types.routing import Routing
from foundry.types.snapshot import EngineTarget, ProviderTarget, RouteEntry
from tests.support.asgi import serve_asgi
from tests.support.instance import Home

PRICE = Price(price_id="p@1", source="test", input_per_mtok_usd=Decimal(1), output_per_mtok_usd=Decimal(2))
PIECE = 7


@dataclass
class Echo:
    """Answers with the last user message; moderates: the word "vile" scores 0.9, everything else 0.1."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    hold_at: int | None = None
    """Streams wait here (characters) for `go`."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    break_at: int | None = None
    """Streams break off here (characters)."""
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/moderations", self._moderations)
        app.router.add_post("/classify", self._classify)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    async def _moderations(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        results = [{"category_scores": {"hate": 0.9 if "vile" in text else 0.1}} for text in body["input"]]
        return web.json_response({"results": results, "usage": {"prompt_tokens": 5, "completion_tokens": 0}})

    async def _classify(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        data = [
            {"index": n, "label": "INJECTION" if "vile" in text else "SAFE", "probs": [0.2, 0.8]}
            for n, text in enumerate(body["input"])
        ]
        return web.json_response({"data": data, "usage": {"prompt_tokens": 6, "completion_tokens": 0}})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        said = body["messages"][-1]["content"]
        pieces = [said[at : at + PIECE] for at in range(0, len(said), PIECE)]
        usage = {"prompt_tokens": 10, "completion_tokens": len(pieces), "total_tokens": 10 + len(pieces)}
        if not body.get("stream"):
            message = {"role": "assistant", "content": said}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response(
                {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        deltas: list[dict[str, Any]] = [
            {"role": "assistant", "content": ""},
            *({"content": p} for p in pieces),
        ]
        for number, delta in enumerate(deltas):
            if self.hold_at is not None and number * PIECE >= self.hold_at:
                await self.go.wait()
            if self.break_at is not None and number * PIECE >= self.break_at:
                assert request.transport is not None
                request.transport.abort()
                return response
            running = {**usage, "completion_tokens": number, "total_tokens": 10 + number}
            await response.write(_event([{"index": 0, "delta": delta, "finish_reason": None}], running))
        await response.write(_event([{"index": 0, "delta": {}, "finish_reason": "stop"}], usage))
        await response.write(_event([], usage) + b"data: [DONE]\n\n")
        return response


def _event(choices: list[dict[str, Any]], usage: dict[str, int]) -> bytes:
    chunk = {"id": "x", "object": "chat.completion.chunk", "choices": choices, "usage": usage}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@dataclass
class Rig:
    """The gateway's URL, a key of each name, and what lies on disk afterwards."""

    home: Home
    echo: Echo
    gateway: Gateway
    url: str
    keys: dict[str, str]

    async def chat(self, route: str, text: str, *, key: str = "plain", **more: Any) -> httpx.Response:
        body = {"model": route, "messages": [{"role": "user", "content": text}], **more}
        headers = {"authorization": f"Bearer {self.keys[key]}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=90) as client:
            return await client.post("/v1/chat/completions", json=body)

    def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path in segments.listing(next((self.home.path / "spool").iterdir())):
            for line in path.read_bytes().splitlines(keepends=True):
                payload = segments.decode_line(line)
                assert payload is not None
                found.append(json.loads(payload))
        return found


MakeRig = Callable[..., Awaitable[Rig]]


@pytest_asyncio.fixture
async def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeRig]:
    """`await guarded(profile_name=[GuardEntry, ...])`: a route of each profile's name, and a key of that name."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor")
    stops: list[Callable[[], Awaitable[object]]] = []

    async def make(
        blocks: tuple[BlockRule, ...] = (),
        gateway_settings: dict[str, object] | None = None,
        window: int = 40,
        **profiles: list[GuardEntry],
    ) -> Rig:
        home, echo = Home.make(tmp_path / "home"), Echo()
        await echo.start()
        stops.append(echo.stop)
        entries = {"plain": home.key(), **{name: home.key(guardrails=(name,)) for name in profiles}}
        home.write_snapshot(
            [entry for _, entry in entries.values()],
            _routes(echo.url, profiles),
            guardrails=[
                GuardrailProfile(name=name, guards=tuple(guards), stream_window_chars=window)
                for name, guards in profiles.items()
            ],
            blocks=blocks,
        )
        gateway = Gateway(home.settings(**(gateway_settings or {})), gateway_id="gw-1")
        await gateway.start()
        stops.append(gateway.stop)
        server = serve_asgi(gateway)
        url = await server.__aenter__()
        stops.append(lambda: server.__aexit__(None, None, None))
        return Rig(home, echo, gateway, url, {name: key for name, (key, _) in entries.items()})

    yield make
    for stop in reversed(stops):
        await stop()


def _routes(url: str, profiles: dict[str, list[GuardEntry]]) -> list[RouteEntry]:
    def engine(name: str) -> EngineTarget:
        return EngineTarget(
            target_id=f"engine/{name}",
            deployment=name,
            model="echo",
            base_url=url,
            price=PRICE,
            phase=DeploymentPhase.READY,
        )

    def route(name: str, task: Task, target: EngineTarget | ProviderTarget, **more: Any) -> RouteEntry:
        return RouteEntry(name=name, task=task, targets=(target,), created_at=datetime.now(UTC), **more)

    vendor = ProviderTarget(target_id="openai/mod", provider="openai", model="mod", base_url=url, price=PRICE)
    return [
        route("open", Task.GENERATE, engine("open")),
        *(route(name, Task.GENERATE, engine(name), guardrails=(name,)) for name in profiles),
        *(
            route(f"before-{name}", Task.GENERATE, engine("open"), routing=Routing(fallbacks=(name,)))
            for name in profiles
        ),
        route("mod", Task.MODERATE, vendor),
        route("guard-model", Task.CLASSIFY, engine("guard-model")),
    ]
