"""Two real gateways before a scripted upstream, joined by one ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from foundry.gateway.app import Gateway
from foundry.gateway.limits.estimate import BYTES_PER_RESERVED_TOKEN
from foundry.gateway.limits.ledger import Ledger
from foundry.gateway.signing import sign
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.limits import LimitEntry
from foundry.types.money import Price
from foundry.types.snapshot import EngineTarget, RouteEntry, Snapshot
from tests.foundry.gateway.limits.cluster import limit
from tests.support.asgi import serve_asgi
from tests.support.instance import Home
from tests.support.scripted_upstream import OUTPUT_TOKENS, PROMPT_TOKENS, ScriptedUpstream

PRICE = Price(price_id="t", input_per_mtok_usd=Decimal(100), output_per_mtok_usd=Decimal(100), source="test")
COST = Decimal("0.0001") * (PROMPT_TOKENS + OUTPUT_TOKENS)
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


@dataclass
class Pair:
    """Two gateways."""

    urls: list[str]
    key: str
    upstream: ScriptedUpstream

    def client(self, number: int) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.urls[number], headers={"authorization": f"Bearer {self.key}"}, timeout=20
        )

    async def ask(self, number: int, model: str = "ok", **more: Any) -> httpx.Response:
        async with self.client(number) as client:
            return await client.post("/v1/chat/completions", json={"model": model, **CHAT, **more})


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await pair(limit(...), ...)`."""
    async with AsyncExitStack() as stack:

        async def make(*limits: LimitEntry) -> Pair:
            home, upstream, ledger = Home.make(tmp_path / "home"), ScriptedUpstream(), Ledger()
            await upstream.start()
            stack.push_async_callback(upstream.stop)
            running = asyncio.create_task(ledger.run())
            stack.callback(running.cancel)
            key, entry = home.key()
            routes = tuple(
                RouteEntry(name=name, task=Task.GENERATE, created_at=datetime.now(UTC), targets=(EngineTarget(
                    target_id=f"engine/{name}", deployment=name, model=model, phase=DeploymentPhase.READY,
                    base_url=upstream.url, price=price,
                ),)) for name, model, price in [
                    ("ok", "ok", PRICE), ("endless", "endless", PRICE), ("broken", "status-500", PRICE), ("unpriced", "ok", None),
                ]
            )  # fmt: skip
            snapshot = Snapshot(
                cluster="test",
                version=1,
                issued_at=datetime.now(UTC),
                keys=(entry,),
                routes=routes,
                limits=limits,
            )
            path = home.path / "snapshots" / "test.json"
            path.parent.mkdir()
            path.write_text(sign(snapshot, home.signer).model_dump_json())
            urls: list[str] = []
            for number in (1, 2):
                gateway = Gateway(home.settings(), gateway_id=f"gw-{number}", ledger=ledger)
                await gateway.start()
                stack.push_async_callback(gateway.stop)
                urls.append(await stack.enter_async_context(serve_asgi(gateway)))
            return Pair(urls, key, upstream)

        yield make


MakePair = Callable[..., Any]


async def test_a_limit_holds_over_both_and_is_told_in_the_headers(pair: MakePair) -> None:
    made: Pair = await pair(limit("requests", 5, name="daily", scope="key"))
    answers = [await made.ask(number % 2) for number in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert answers[0].headers["x-ratelimit-limit-requests"] == "5"
    assert answers[0].headers["ratelimit-policy"] == '"daily";q=5;w=86400;qu="requests"'
    last = answers[-1]
    assert last.json()["error"]["code"] == "limit_exceeded"
    assert "'daily'" in last.json()["error"]["message"]
    assert last.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(last.headers["retry-after"]) <= 86400
    assert len(made.upstream.requests) == 5


async def test_the_official_client_raises_its_own_error(pair: MakePair) -> None:
    made: Pair = await pair(limit("requests", 0))
    client = openai.AsyncOpenAI(base_url=made.urls[0] + "/v1", api_key=made.key, max_retries=0)
    with pytest.raises(openai.RateLimitError, match="limit 'l'"):
        await client.chat.completions.create(model="ok", messages=[{"role": "user", "content": "x"}])
    await client.close()


async def test_a_budget_is_settled_to_the_last_digit_and_binds_over_both(pair: MakePair) -> None:
    body = b'{"model":"ok","messages":[{"role":"user","content":"hi"}],"max_tokens":5,"stream":true}'
    reserve = Decimal("0.0001") * (-(-len(body) // BYTES_PER_RESERVED_TOKEN) + 5)
    made: Pair = await pair(limit("usd", str(3 * COST + reserve)))
    for number, stream in ((0, False), (1, False), (0, True), (1, True)):
        assert (await made.ask(number, stream=stream)).status_code == 200
    refused = await made.ask(0)
    assert refused.status_code == 402
    assert refused.json()["error"]["code"] == "budget_exhausted"
    assert f"{(reserve - COST).normalize():f} are left" in refused.json()["error"]["message"]


async def test_concurrency_comes_back_from_streams_that_callers_leave(pair: MakePair) -> None:
    made: Pair = await pair(limit("concurrency", 2))
    async with (
        made.client(0) as first,
        made.client(1) as second,
        first.stream(
            "POST", "/v1/chat/completions", json={"model": "endless", **CHAT, "stream": True}
        ) as one,
    ):
        async with second.stream(
            "POST", "/v1/chat/completions", json={"model": "endless", **CHAT, "stream": True}
        ) as two:
            assert (one.status_code, two.status_code) == (200, 200)
            assert (await made.ask(0)).status_code == 429
            refused = await made.ask(1)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        async with asyncio.timeout(10):
            while (await made.ask(0)).status_code != 200:
                await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        while (await made.ask(1)).status_code != 200:
            await asyncio.sleep(0.05)


async def test_an_aborted_stream_is_settled_for_what_came(pair: MakePair) -> None:
    made: Pair = await pair(limit("output_tokens", 1000))
    async with (
        made.client(0) as client,
        client.stream(
            "POST", "/v1/chat/completions", json={"model": "endless", **CHAT, "stream": True}
        ) as answer,
    ):
        async for _ in answer.aiter_lines():
            break
    async with asyncio.timeout(10):
        await made.upstream.cut.wait()
    left = int((await made.ask(0)).headers["x-ratelimit-remaining-tokens"])
    assert 800 < left < 1000 - OUTPUT_TOKENS


async def test_a_failed_request_counts_as_a_request_and_uses_nothing_else(pair: MakePair) -> None:
    made: Pair = await pair(
        limit("requests", 10, name="r"), limit("tokens", 1000, name="t"), limit("usd", 1, name="b")
    )
    assert (await made.ask(0, "broken")).status_code >= 500
    answer = await made.ask(0)
    assert answer.headers["x-ratelimit-remaining-requests"] == "8"
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(1000 - PROMPT_TOKENS - OUTPUT_TOKENS)


async def test_a_budget_does_not_let_through_what_has_no_price(pair: MakePair) -> None:
    made: Pair = await pair(limit("usd", 1))
    answer = await made.ask(0, "unpriced")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "price_unknown")
    assert "budget 'l'" in answer.json()["error"]["message"]
    assert not made.upstream.requests
