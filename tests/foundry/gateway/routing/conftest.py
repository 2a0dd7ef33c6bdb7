"""Candidates with a clock in the test's hand; and a gateway before several scripted upstreams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Protocol

import httpx
import msgspec
import pytest
import pytest_asyncio

from foundry.codecs.base import Call
from foundry.gateway.app import Gateway
from foundry.gateway.routing.targets import Candidate, TargetState
from foundry.gateway.signing import sign
from foundry.gateway.upstream import Upstream
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.money import Price
from foundry.types.routing import Health, Routing
from foundry.types.snapshot import EngineTarget, KeyEntry, ProviderTarget, RouteEntry
from tests.foundry.gateway.conftest import Rig
from tests.support.asgi import serve_asgi
from tests.support.instance import Home
from tests.support.scripted_upstream import ScriptedUpstream

PRICE = Price(
    price_id="test@1", source="test", input_per_mtok_usd=Decimal(1), output_per_mtok_usd=Decimal(2),
)  # fmt: skip


class Clock:
    """Seconds that go forward when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def target(name: str, url: str = "http://127.0.0.1:9", **fields: Any) -> EngineTarget:
    base: dict[str, Any] = {"model": "ok", "phase": DeploymentPhase.READY, "price": PRICE, **fields}
    return EngineTarget(target_id=f"engine/{name}", deployment=name, base_url=url, **base)


def vendor(name: str, url: str, **fields: Any) -> ProviderTarget:
    base: dict[str, Any] = {"model": "ok", "price": PRICE, "provider": "openai", **fields}
    return ProviderTarget(target_id=f"openai/{name}", base_url=url, **base)


def candidate(name: str, health: Health | None = None, **fields: Any) -> Candidate:
    entry = target(name, **fields)
    state = TargetState(entry.target_id)
    return Candidate(entry, Upstream(entry, engine_token="token"), state, health or Health())


def call(**fields: Any) -> Call:
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    return Call(model="m", stream=False, fields=raw)


@dataclass
class Routed:
    """A gateway before several upstreams."""

    rig: Rig
    upstreams: list[ScriptedUpstream]
    key_entry: KeyEntry
    version: int = 1
    sent: list[httpx.Response] = field(default_factory=list)

    @property
    def gateway(self) -> Gateway:
        return self.rig.gateway

    def asked(self) -> list[int]:
        """Requests that each upstream got."""
        return [len(upstream.requests) for upstream in self.upstreams]

    async def chat(
        self, model: str = "r", *, stream: bool = False, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": stream, **more}
        async with self.rig.client() as client:
            return await client.post("/v1/chat/completions", json=body, headers=headers)

    def publish(self, *routes: RouteEntry) -> None:
        """A newer snapshot, as the puller would apply it."""
        self.version += 1
        home = self.rig.home
        snapshot = home.write_snapshot([self.key_entry], list(routes), self.version)
        self.gateway.snapshots.accept(sign(snapshot, home.signer))


def route(
    name: str, *targets: EngineTarget | ProviderTarget, routing: dict[str, Any] | None = None
) -> RouteEntry:
    return RouteEntry(
        name=name, task=Task.GENERATE, targets=targets, created_at=datetime.now(UTC),
        routing=Routing.model_validate(routing or {}),
    )  # fmt: skip


class Make(Protocol):
    """Makes a gateway before several upstreams, whose URLs `routes` is given."""

    def __call__(
        self, routes: Callable[[list[str]], list[RouteEntry]], upstreams: int = 2, **settings: object
    ) -> Awaitable[Routed]: ...


@pytest_asyncio.fixture
async def routed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """`await routed(lambda urls: [route(...)], upstreams=2)`; every draw comes from a seeded source."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor")
    stops: list[Any] = []

    async def make(
        routes: Callable[[list[str]], list[RouteEntry]], upstreams: int = 2, **settings: object
    ) -> Routed:
        home = Home.make(tmp_path / "home")
        doubles = [ScriptedUpstream() for _ in range(upstreams)]
        for double in doubles:
            await double.start()
            stops.append(double.stop)
        key, entry = home.key()
        home.write_snapshot([entry], routes([double.url for double in doubles]))
        gateway = Gateway(home.settings(**settings), gateway_id="gw-1")
        gateway.routing.board.random.seed(7)
        await gateway.start()
        stops.append(gateway.stop)
        server = serve_asgi(gateway)
        url = await server.__aenter__()
        stops.append(lambda: server.__aexit__(None, None, None))
        return Routed(Rig(home, doubles[0], gateway, url, {"good": key}), doubles, entry)

    yield make
    for stop in reversed(stops):
        await stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def random() -> Random:
    return Random(7)
