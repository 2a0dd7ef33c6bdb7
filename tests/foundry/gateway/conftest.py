"""A gateway on loopback in front of a scripted upstream, with nothing else alive: no control API, no metrics store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from foundry.gateway.app import Gateway
from foundry.metrics import segments
from foundry.types.cache import CachePolicy
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.money import Price
from foundry.types.routing import Health, Retries, Routing
from foundry.types.snapshot import EngineTarget, KeyEntry, ProviderTarget, RouteEntry
from foundry.types.usage import UsageRecord
from tests.support.asgi import serve_asgi
from tests.support.instance import Home
from tests.support.scripted_upstream import ScriptedUpstream

PRICE = Price(
    price_id="test@1", source="test", input_per_mtok_usd=Decimal("0.15"), output_per_mtok_usd=Decimal("0.60"),
    cached_input_per_mtok_usd=Decimal("0.075"),
)  # fmt: skip
_DEFAULTS = {
    field.name: field.default
    for field in msgspec.structs.fields(UsageRecord)
    if field.default is not msgspec.NODEFAULT
}
ONCE = Routing(retries=Retries(attempts=0), health=Health(min_requests=1000))
"""No second tries and no breaker: what a target says is what a caller gets."""
BEHAVIOURS = ("ok", "no-usage", "fat-final", "die-before", "die-mid", "error-mid", "endless", "slow")
CACHED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ok", "ok", {}),
    ("full", "ok", {"bill_hits": "full"}),
    ("short", "ok", {"ttl_s": 0.05}),
    ("valkey", "ok", {"backend": "valkey"}),
    ("deterministic", "ok", {"only_deterministic": True}),
    ("semantic", "ok", {"semantic": {"embedding_route": "embed", "threshold": 0.9}}),
    ("semantic-broken", "ok", {"semantic": {"embedding_route": "no-such-route"}}),
    ("error-mid", "error-mid", {}),
    ("status-400", "status-400", {}),
)
"""Routes with a cache: name, behaviour, policy."""
STATUSES = (400, 401, 403, 404, 413, 422, 429, 500, 503)


@dataclass
class Rig:
    """Everything a gateway test touches."""

    home: Home
    upstream: ScriptedUpstream
    gateway: Gateway
    url: str
    keys: dict[str, str]

    def client(self, key: str = "good") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.keys[key]}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20)

    def records(self) -> list[dict[str, Any]]:
        """Every usage record on disk, in order."""
        found: list[dict[str, Any]] = []
        for path in segments.listing(next((self.home.path / "spool").iterdir())):
            for line in path.read_bytes().splitlines(keepends=True):
                payload = segments.decode_line(line)
                assert payload is not None
                found.append({**_DEFAULTS, **json.loads(payload)})
        return found


def behaviour_routes(upstream_url: str) -> list[RouteEntry]:
    def route(
        name: str, target: EngineTarget | ProviderTarget, task: Task = Task.GENERATE, **fields: Any
    ) -> RouteEntry:
        return RouteEntry(name=name, task=task, targets=(target,), created_at=datetime.now(UTC), **fields)

    def engine(model: str, phase: DeploymentPhase = DeploymentPhase.READY, **fields: Any) -> EngineTarget:
        base: dict[str, Any] = {"base_url": upstream_url, "price": PRICE, **fields}
        return EngineTarget(target_id=f"engine/{model}", deployment=model, model=model, phase=phase, **base)

    def vendor(model: str, **fields: Any) -> ProviderTarget:
        base: dict[str, Any] = {"base_url": upstream_url, "price": PRICE, **fields}
        return ProviderTarget(target_id=f"openai/{model}", provider="openai", model=model, **base)

    names = [*BEHAVIOURS, *(f"status-{status}" for status in STATUSES)]
    return [
        *(route(f"own-{name}", engine(name)) for name in names),
        *(route(f"vendor-{name}", vendor(name)) for name in names),
        route("embed", engine("embed"), Task.EMBED),
        route(
            "loading", engine("loading", DeploymentPhase.LOADING, phase_detail="reading weights", eta_s=42)
        ),
        route("dead", engine("dead", base_url="http://127.0.0.1:9")),
        route("once", engine("ok"), routing=ONCE),
        route("unpriced", engine("ok", price=None)),
        route("secretless", ProviderTarget(target_id="groq/x", provider="groq", model="x")),
        *(
            route(f"cached-{name}", engine(model), cache=CachePolicy.model_validate(policy))
            for name, model, policy in CACHED
        ),
        route("other-project", engine("ok"), project_ids=("proj_2",)),
    ]


@pytest_asyncio.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Make a rig: `await rig(max_body_bytes=...)`."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor")
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    stops: list[Any] = []

    async def make(**gateway_settings: object) -> Rig:
        home, upstream = Home.make(tmp_path / "home"), ScriptedUpstream()
        await upstream.start()
        stops.append(upstream.stop)
        entries: dict[str, tuple[str, KeyEntry]] = {
            "good": home.key(),
            "narrow": home.key(allowed_routes=("own-ok",)),
            "expired": home.key(expires_at=datetime.now(UTC) - timedelta(seconds=1)),
            "admin": home.key(scopes=("admin",)),
            "sibling": home.key(),
            "stranger": home.key(project_id="proj_2"),
        }
        home.write_snapshot([entry for _, entry in entries.values()], behaviour_routes(upstream.url))
        gateway = Gateway(home.settings(**gateway_settings), gateway_id="gw-1")
        await gateway.start()
        stops.append(gateway.stop)
        server = serve_asgi(gateway)
        url = await server.__aenter__()
        stops.append(lambda: server.__aexit__(None, None, None))
        return Rig(home, upstream, gateway, url, {name: key for name, (key, _) in entries.items()})

    yield make
    for stop in reversed(stops):
        await stop()
