"""A gateway with limits, a guard, a cache and failing targets, and callers who do everything that callers do, each with its price.

What it does not know: how long it runs, what is asserted.
"""

# Private names: the sink is replaced by one that sums.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import httpx

from foundry.gateway.app import Gateway
from foundry.gateway.signing import sign
from foundry.types.cache import CachePolicy
from foundry.types.guardrails import GuardEntry, GuardrailProfile
from foundry.types.limits import LimitEntry
from foundry.types.snapshot import RouteEntry, Snapshot
from foundry.types.usage import UsageRecord
from tests.foundry.gateway.conftest import ONCE, PRICE, behaviour_routes
from tests.support.asgi import serve_asgi
from tests.support.instance import Home
from tests.support.scripted_upstream import CACHED_TOKENS, OUTPUT_TOKENS, PROMPT_TOKENS, ScriptedUpstream

SAYS = [{"role": "user", "content": "hi"}]
SECRET = [{"role": "user", "content": "the word is xyzzy"}]


def cost(output: int) -> Decimal:
    """Of one answer of the upstream's."""
    cached = CACHED_TOKENS * (PRICE.cached_input_per_mtok_usd or Decimal(0))
    fresh = (PROMPT_TOKENS - CACHED_TOKENS) * (PRICE.input_per_mtok_usd or Decimal(0))
    return (fresh + cached + output * (PRICE.output_per_mtok_usd or Decimal(0))) / 1_000_000


@dataclass
class Sum:
    """Requests, tokens and money."""

    requests: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    def add(self, output_tokens: int, cost_usd: Decimal) -> None:
        self.requests += 1
        self.output_tokens += output_tokens
        self.cost_usd += cost_usd


@dataclass
class Told:
    """In the spool's place: sums by how requests ended, then the spool."""

    append_to: Callable[[UsageRecord], None]
    by_outcome: dict[str, Sum] = field(default_factory=dict)

    def append(self, record: UsageRecord) -> None:
        assert record.cost_usd is not None, record
        self.by_outcome.setdefault(record.outcome, Sum()).add(record.output_tokens, record.cost_usd)
        self.append_to(record)


@dataclass
class Soak:
    """The rig and what its callers expect."""

    home: Home
    upstream: ScriptedUpstream
    gateway: Gateway
    url: str
    snapshot: Snapshot
    told: Told
    keys: dict[str, str]
    expected: dict[str, Sum] = field(default_factory=dict)
    seen_before_leaving: int = 0
    """Tokens that callers who left had seen."""
    statuses: Counter[str] = field(default_factory=Counter)

    def expect(self, outcome: str, output: int | None = None) -> None:
        """One request ended so; output: tokens of the upstream's answer, None when it is not to be billed."""
        self.expected.setdefault(outcome, Sum()).add(
            output or 0, Decimal(0) if output is None else cost(output)
        )

    def swap(self) -> None:
        """A newer snapshot of the same content."""
        self.snapshot = self.snapshot.model_copy(update={"version": self.snapshot.version + 1})
        self.gateway.snapshots.accept(sign(self.snapshot, self.home.signer))
        self.upstream.requests.clear()  # the double's memory, not the gateway's

    def client(self, key: str = "good") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.keys[key]}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)


Act = Callable[[Soak, dict[str, httpx.AsyncClient], Random], Awaitable[None]]


async def _chat(soak: Soak, clients: dict[str, httpx.AsyncClient], random: Random) -> None:
    streamed = random.random() < 0.6
    answer = await clients["good"].post(
        "/v1/chat/completions", json={"model": "guarded", "messages": SAYS, "stream": streamed}
    )
    assert answer.status_code == 200, answer.text
    assert not streamed or answer.text.endswith("data: [DONE]\n\n")
    soak.expect("completed", OUTPUT_TOKENS)


async def _messages(soak: Soak, clients: dict[str, httpx.AsyncClient], random: Random) -> None:
    body = {"model": "own-ok", "messages": SAYS, "max_tokens": 9, "stream": random.random() < 0.5}
    answer = await clients["good"].post("/v1/messages", json=body)
    assert answer.status_code == 200, answer.text
    soak.expect("completed", OUTPUT_TOKENS)


async def _cached(soak: Soak, clients: dict[str, httpx.AsyncClient], random: Random) -> None:
    said = [{"role": "user", "content": f"question {random.randrange(20)}"}]
    answer = await clients["good"].post("/v1/chat/completions", json={"model": "cached-ok", "messages": said})
    assert answer.status_code == 200, answer.text
    soak.statuses[f"cache {answer.headers['x-foundry-cache']}"] += 1
    soak.expect("completed", None if answer.headers["x-foundry-cache"] == "hit" else OUTPUT_TOKENS)


async def _leaves(soak: Soak, clients: dict[str, httpx.AsyncClient], random: Random) -> None:
    body = {"model": "own-endless", "messages": SAYS, "stream": True}
    wanted, seen = random.randint(1, 8), 0
    async with clients["good"].stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            seen += '"content":"w' in line
            if seen >= wanted:
                break
    soak.seen_before_leaving += seen
    soak.expected.setdefault("aborted", Sum()).requests += 1


async def _breaks(soak: Soak, clients: dict[str, httpx.AsyncClient], random: Random) -> None:
    body = {"model": random.choice(("own-die-mid", "own-error-mid")), "messages": SAYS, "stream": True}
    answer = await clients["good"].post("/v1/chat/completions", json=body)
    assert "error" in answer.text
    soak.expect("failed", 2)


async def _fails(soak: Soak, clients: dict[str, httpx.AsyncClient], random: Random) -> None:
    model = random.choice(("own-status-503", "own-status-400", "own-die-before", "dead"))
    answer = await clients["good"].post("/v1/chat/completions", json={"model": model, "messages": SAYS})
    assert answer.status_code in {400, 502, 503}, answer.text
    soak.expect("failed")


async def _refused(soak: Soak, clients: dict[str, httpx.AsyncClient], random: Random) -> None:
    kind = random.randrange(4)
    if kind == 0:
        answer = await clients["nobody"].get("/v1/models")
    elif kind == 1:
        answer = await clients["good"].post("/v1/chat/completions", content=b"{")
    elif kind == 2:
        answer = await clients["good"].post(
            "/v1/chat/completions", json={"model": "guarded", "messages": SECRET}
        )
    else:
        answer = await clients["good"].get("/v1/nothing")
    assert answer.status_code in {400, 401, 404}, answer.text
    soak.expect("rejected")


async def _limited(soak: Soak, clients: dict[str, httpx.AsyncClient], _random: Random) -> None:
    answer = await clients["limited"].post("/v1/chat/completions", json={"model": "own-ok", "messages": SAYS})
    assert answer.status_code in {200, 429}, answer.text
    soak.statuses[f"limited {answer.status_code}"] += 1
    if answer.status_code == 200:
        soak.expect("completed", OUTPUT_TOKENS)
    else:
        soak.expect("rejected")


async def _lists(soak: Soak, clients: dict[str, httpx.AsyncClient], _random: Random) -> None:
    answer = await clients["good"].get("/v1/models")
    assert answer.status_code == 200
    soak.expect("completed")


ACTS: tuple[Act, ...] = (
    _chat,
    _chat,
    _chat,
    _messages,
    _cached,
    _cached,
    _leaves,
    _breaks,
    _fails,
    _refused,
    _limited,
    _lists,
)


async def call_until(soak: Soak, stopping: asyncio.Event, number: int) -> None:
    """One caller, with connections of its own, until told to stop."""
    random = Random(number)
    async with (
        soak.client() as good,
        soak.client("limited") as limited,
        httpx.AsyncClient(base_url=soak.url) as nobody,
    ):
        clients = {"good": good, "limited": limited, "nobody": nobody}
        while not stopping.is_set():
            await random.choice(ACTS)(soak, clients, random)


def _routes(url: str) -> list[RouteEntry]:
    made: list[RouteEntry] = []
    for route in behaviour_routes(url):
        if route.name in {
            "own-status-503",
            "own-status-400",
            "own-die-before",
            "own-die-mid",
            "own-error-mid",
            "dead",
        }:
            made.append(route.model_copy(update={"routing": ONCE.model_copy(update={
                "health": ONCE.health.model_copy(update={"min_requests": 1_000_000_000})})}))  # fmt: skip
        elif route.name in {"own-ok", "own-endless"}:
            made.append(route)
        if route.name == "own-ok":
            made.append(route.model_copy(update={"name": "guarded", "guardrails": ("words",)}))
            made.append(route.model_copy(update={"name": "cached-ok", "cache": CachePolicy(ttl_s=2.0)}))
    return made


@asynccontextmanager
async def soak_rig(folder: Path) -> AsyncGenerator[Soak]:
    """A running one on loopback."""
    home, upstream = Home.make(folder / "home"), ScriptedUpstream(retry_after="")
    await upstream.start()
    keys = {"good": home.key(), "limited": home.key()}
    limited = keys["limited"][1].key_id
    entries: tuple[Any, ...] = (
        LimitEntry(
            name="rate",
            meter="requests",
            scope="key",
            subjects=(limited,),
            amount=Decimal(5),
            window="second",
        ),
        LimitEntry(name="open", meter="concurrency", scope="project", amount=Decimal(500)),
        LimitEntry(name="money", meter="usd", scope="project", amount=Decimal(10_000), window="day"),
    )
    words = GuardEntry(
        kind="regex", stages=("input", "output", "stream"), options={"patterns": {"word": "xyzzy"}}
    )
    profile = GuardrailProfile(name="words", guards=(words,))
    snapshot = home.write_snapshot(
        [entry for _, entry in keys.values()], _routes(upstream.url), limits=entries, guardrails=(profile,)
    )
    gateway = Gateway(home.settings(ship_interval_s=600.0), gateway_id="gw-1")
    told = Told(gateway.spool.append)
    gateway._lifecycle._delivery._sink = told
    await gateway.start()
    async with serve_asgi(gateway) as url:
        yield Soak(
            home, upstream, gateway, url, snapshot, told, {name: key for name, (key, _) in keys.items()}
        )
    await gateway.stop()
    await upstream.stop()
