"""Two replicas behind Serve's own HAProxy are killed and restarted under load: nothing unbegun is lost, everything begun is billed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, AsyncOpenAI

from foundry.gateway.progress import TICK_S
from foundry.metrics.open_streams import REPLICA_LOST
from foundry.metrics.queries import list_usage
from foundry.metrics.store import Store
from foundry.types.routing import Routing
from tests.foundry.gateway.conftest import PRICE, behaviour_routes
from tests.foundry.metrics.conftest import StoreProcess
from tests.support.instance import Home
from tests.support.scripted_upstream import PACED_TOKENS, PROMPT_TOKENS, ScriptedUpstream

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 2
WORKERS = 10
SLACK_S = 0.5
"""How late a tick may come on a machine with two busy cores."""
MESSAGES: list[Any] = [{"role": "user", "content": "on and on"}]  # Any: a TypedDict of the client's


@dataclass
class Told:
    """What the client saw of one request."""

    request_id: str
    streamed: bool
    begun: bool = False
    whole: bool = False
    tokens_at: list[float] = field(default_factory=list)
    """Moments at which content chunks came."""
    error: str = ""


@dataclass
class Replica:
    """One of two: a process on a port of its own, under a new name after each start, as Serve does it."""

    name: str
    port: int
    arguments: Callable[[str, int], list[str]]
    starts: int = 0
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.starts += 1
        command = self.arguments(f"{self.name}-{self.starts}", self.port)
        self.process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=_environment(), stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None
        await asyncio.wait_for(self.process.stdout.readline(), 60)

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()


@dataclass
class Site:
    """The two replicas and what stands around them."""

    replicas: list[Replica]
    url: str
    stats_url: str
    key: str
    upstream: ScriptedUpstream
    store: StoreProcess
    told: list[Told] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)

    async def wait_until_up(self) -> None:
        """Until HAProxy sends requests to both."""
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            while await self._up(client) < len(self.replicas):
                await asyncio.sleep(0.1)  # poll: bounded by the timeout above

    async def _up(self, client: httpx.AsyncClient) -> int:
        try:
            page = (await client.get(self.stats_url)).text
        except httpx.TransportError:
            return 0
        rows = [line.split(",") for line in page.splitlines()]
        return sum(row[:1] == ["gateway"] and row[1] != "BACKEND" and row[17] == "UP" for row in rows)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@asynccontextmanager
async def _site(folder: Path, make_port: Callable[[], int]) -> AsyncGenerator[Site]:
    async with AsyncExitStack() as stack:
        home, upstream = Home.make(folder / "home"), ScriptedUpstream()
        store = StoreProcess(home.path, make_port())
        await asyncio.to_thread(store.start)
        stack.callback(store.stop)
        opened = await Store.connect(store.settings)
        await opened.migrate()
        await opened.close()
        await upstream.start()
        stack.push_async_callback(upstream.stop)
        key, entry = home.key()
        home.write_snapshot([entry], _routes(upstream.url))
        gateway = json.dumps({"ship_interval_s": 0.2})

        def arguments(name: str, port: int) -> list[str]:
            place = [str(home.path), name, gateway, str(port), store.settings.metrics.url]
            return [sys.executable, "-m", "tests.support.gateway_process", *place]

        replicas = [Replica(name, make_port(), arguments) for name in ("a", "b")]
        for replica in replicas:
            stack.push_async_callback(replica.stop)
        await asyncio.gather(*(replica.start() for replica in replicas))
        port, stats, metrics = make_port(), make_port(), make_port()
        balancer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.balancer", str(folder / "haproxy")),
            *map(str, (port, stats, metrics, *(replica.port for replica in replicas))),
            cwd=ROOT, env=_environment(), stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        stack.push_async_callback(balancer.wait)
        stack.callback(balancer.kill)
        site = Site(
            replicas,
            f"http://127.0.0.1:{port}/v1",
            f"http://127.0.0.1:{stats}/stats;csv",
            key,
            upstream,
            store,
        )
        await site.wait_until_up()
        yield site


def _routes(upstream_url: str) -> list[Any]:
    ok = next(route for route in behaviour_routes(upstream_url) if route.name == "own-ok")
    (target,) = ok.targets
    paced = target.model_copy(update={"model": "paced", "price": PRICE})
    return [ok.model_copy(update={"name": "paced", "targets": (paced,), "routing": Routing()})]


async def _load(site: Site, stopping: asyncio.Event, number: int) -> None:
    async with AsyncOpenAI(base_url=site.url, api_key=site.key, max_retries=0, timeout=60) as client:
        count = 0
        while not stopping.is_set():
            count += 1
            told = Told(f"r-{number}-{count}", streamed=count % 3 != 0)
            site.told.append(told)
            try:
                await (_stream if told.streamed else _whole)(client, told)
            except (APIError, httpx.TransportError) as error:
                told.error = repr(error)


async def _whole(client: AsyncOpenAI, told: Told) -> None:
    headers = {"x-request-id": told.request_id}
    answer = await client.chat.completions.create(model="paced", messages=MESSAGES, extra_headers=headers)
    told.begun = told.whole = answer.choices[0].message.content == "one two three"


async def _stream(client: AsyncOpenAI, told: Told) -> None:
    headers = {"x-request-id": told.request_id}
    stream = await client.chat.completions.create(
        model="paced", messages=MESSAGES, stream=True, extra_headers=headers
    )
    told.begun = True
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            told.tokens_at.append(time.monotonic())
    told.whole = len(told.tokens_at) == PACED_TOKENS


async def _records(site: Site, wanted: int) -> dict[str, list[dict[str, Any]]]:
    """The bill, once it is complete: by request id."""
    store = await Store.connect(site.store.settings)
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        async with asyncio.timeout(40):
            while True:
                rows = await list_usage(store, limit=10_000)
                found = {}
                for row in rows:
                    found.setdefault(str(row["request_id"]), []).append(dict(row))
                if len(found) >= wanted:
                    return found
                await asyncio.sleep(0.25)  # poll: bounded by the timeout above
    except TimeoutError:
        return found
    finally:
        await store.close()


async def _kill_by_turns(site: Site) -> None:
    for _ in range(ROUNDS):
        for replica in site.replicas:
            await asyncio.sleep(1.0)  # the load's own time: streams are in all their stages
            site.kills.append(time.monotonic())
            await replica.stop()
            await replica.start()
            await site.wait_until_up()


@pytest.mark.chaos
async def test_replicas_killed_under_load_lose_no_request_and_no_bill(
    tmp_path: Path, make_port: Callable[[], int]
) -> None:
    async with _site(tmp_path, make_port) as site:
        stopping = asyncio.Event()
        load = [asyncio.create_task(_load(site, stopping, number)) for number in range(WORKERS)]
        try:
            await _kill_by_turns(site)
        finally:
            stopping.set()
            await asyncio.gather(*load)
        records = await _records(site, len(site.told))
    lost = [told for told in site.told if not told.begun]
    assert not lost, f"{len(lost)} of {len(site.told)} requests were lost before they began: {lost[:3]}"
    cut = [told for told in site.told if told.streamed and not told.whole]
    assert len(cut) >= ROUNDS, "the kills hit no stream: the test shows nothing"
    for told in site.told:
        _check_bill(told, records.get(told.request_id, []), site.kills)
    codes = Counter(row["error_code"] for rows in records.values() for row in rows)
    sys.stdout.write(f"{len(site.told)} requests, {len(cut)} cut streams, records {dict(codes)}\n")


def _check_bill(told: Told, rows: list[dict[str, Any]], kills: list[float]) -> None:
    """A whole answer has one record, and one more for each try that died under it; a cut stream that of its replica's death."""
    whole = [row for row in rows if row["outcome"] == "completed"]
    dead = [row for row in rows if row["error_code"] == REPLICA_LOST]
    assert len(whole) + len(dead) == len(rows), (told, rows)
    if told.whole:
        assert whole, (told, rows)
        assert not told.streamed or len(whole) == 1, (told, rows)
        tokens = PACED_TOKENS if told.streamed else 3
        assert all(row["output_tokens"] == tokens for row in whole), (told, rows)
    else:
        assert len(dead) == 1, (told, rows)
        assert not whole, (told, rows)
        killed = max(moment for moment in kills if moment <= told.tokens_at[-1] + SLACK_S)
        seen = sum(moment < killed - TICK_S - SLACK_S for moment in told.tokens_at)
        assert seen <= dead[0]["output_tokens"] <= PACED_TOKENS, (seen, told, rows)
        assert (dead[0]["status"], dead[0]["usage_source"]) == (200, "partial")
    for row in rows:
        fresh, cached = row["input_tokens"] - row["cached_input_tokens"], row["cached_input_tokens"]
        assert row["input_tokens"] == PROMPT_TOKENS
        owed = fresh * PRICE.input_per_mtok_usd + cached * (PRICE.cached_input_per_mtok_usd or Decimal(0))
        owed += row["output_tokens"] * PRICE.output_per_mtok_usd
        assert Decimal(row["cost_usd"]) == owed / 1_000_000, row
