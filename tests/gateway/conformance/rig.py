"""One gateway before one double per provider kind, for all cells; and how a cell is played.

What it does not know: what should come of a cell (`expect.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai

from foundry.gateway.app import Gateway
from foundry.metrics import segments
from foundry.types.deployment import DeploymentPhase
from foundry.types.routing import Health, Retries, Routing
from foundry.types.snapshot import EngineTarget, ProviderTarget, RouteEntry
from tests.gateway.conformance import drive, drive_media
from tests.gateway.conformance.cells import KINDS, TASKS, Cell, Kind, all_cells
from tests.gateway.conformance.fallbacks import all_fallbacks
from tests.gateway.conformance.money import PRICE
from tests.gateway.conformance.seen import Seen, Tee, Wired
from tests.support.asgi import serve_asgi
from tests.support.instance import Home
from tests.support.scripted_vendor import ScriptedVendor

ONCE = Routing(retries=Retries(attempts=0), health=Health(min_requests=100_000))
"""No second tries and no breaker: what a target says is what a caller gets."""
_PATIENCE_S = 20.0
Record = dict[str, Any]  # Any: columns of the usage table


def target(kind: Kind, name: str, model: str, url: str) -> EngineTarget | ProviderTarget:
    """A target of a kind at its double."""
    if kind == "own":
        return EngineTarget(
            target_id=target_id(kind, name), deployment=name, model=model, base_url=url, price=PRICE,
            phase=DeploymentPhase.READY,
        )  # fmt: skip
    row = "azure-deployments" if kind == "azure" else kind
    return ProviderTarget(
        target_id=target_id(kind, name), provider=row, model=model, base_url=url, price=PRICE
    )


def target_id(kind: Kind, name: str) -> str:
    """As records, headers and errors name it."""
    return f"{'engine' if kind == 'own' else kind}/{name}"


def _routes(cells: Iterable[Cell], urls: Mapping[Kind, str]) -> list[RouteEntry]:
    made: dict[str, RouteEntry] = {}
    for cell in cells:
        made[cell.model] = RouteEntry(
            name=cell.model, task=TASKS[cell.protocol], created_at=datetime.now(UTC), routing=ONCE,
            targets=(target(cell.kind, cell.target, cell.behaviour, urls[cell.kind]),),
        )  # fmt: skip
    return list(made.values())


def _chains(urls: Mapping[Kind, str]) -> list[RouteEntry]:
    """Routes with a second target."""
    return [
        RouteEntry(
            name=cell.model, task=TASKS[cell.protocol], created_at=datetime.now(UTC),
            routing=Routing(midstream=cell.midstream, retries=Retries(attempts=1), health=ONCE.health),
            targets=(
                target(cell.first, cell.first_target, cell.first_behaviour, urls[cell.first]),
                target(cell.kind, cell.target, cell.behaviour, urls[cell.kind]),
            ),
        )
        for cell in all_fallbacks()
    ]  # fmt: skip


@dataclass
class Rig:
    """Everything that cells share."""

    doubles: Mapping[Kind, ScriptedVendor]
    tee: Tee
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic
    http: httpx2.AsyncClient
    _spool: Path
    _read: dict[Path, int] = field(default_factory=dict[Path, int])
    _records: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))

    async def play(self, cell: Cell) -> tuple[Seen, Wired]:
        """One cell, as a client lives through it."""
        seen = Seen()
        sending = asyncio.create_task(self._send(cell, seen))
        if cell.scenario == "abort" and not cell.stream:
            await self._until(lambda: self._asked(cell))
            sending.cancel()
            seen.left = True
        with suppress(asyncio.CancelledError):
            await sending
        return seen, self.tee.wired[cell.id]

    def _asked(self, cell: Cell) -> bool:
        return any(one.headers.get("x-request-id") == cell.id for one in self.doubles[cell.kind].requests)

    async def _send(self, cell: Cell, seen: Seen) -> None:
        try:
            await self._drive(cell, seen)
        except openai.APIError as error:
            seen.error_code, seen.error_message = error.code or "", error.message
        except anthropic.APIError as error:
            body: Any = error.body
            assert body["type"] == "error"
            seen.error_message = body["error"]["message"]
        except httpx2.TransportError as error:
            seen.error_code, seen.error_message = "connection", repr(error)

    async def _drive(self, cell: Cell, seen: Seen) -> None:
        match cell.protocol:
            case "messages":
                await drive.messages(self.anthropic, cell, seen)
            case "rerank":
                await drive_media.rerank(self.http, cell, seen)
            case "chat" | "completions" | "responses":
                await getattr(drive, cell.protocol)(self.openai, cell, seen)
            case _:
                await getattr(drive_media, cell.protocol)(self.openai, cell, seen)

    async def records(self, request_id: str) -> list[Record]:
        """All usage records of one request; waits for the first, since a caller that left is settled a little later."""
        await self._until(lambda: bool(self._read_on()[request_id]))
        return self._records[request_id]

    def record_counts(self) -> dict[str, int]:
        """How many usage records there are now, by request id."""
        return {name: len(records) for name, records in self._read_on().items()}

    def _read_on(self) -> dict[str, list[Record]]:
        for path in segments.listing(self._spool):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = file.read().splitlines(keepends=True)
            for line in lines:
                payload = segments.decode_line(line)
                assert payload is not None
                record = json.loads(payload)
                self._records[record["request_id"]].append(record)
            self._read[path] = self._read.get(path, 0) + sum(map(len, lines))
        return self._records

    async def _until(self, condition: Any) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.002)


@asynccontextmanager
async def rig(folder: Path) -> AsyncGenerator[Rig]:
    """Doubles, gateway and clients; the vendors' secrets are in the environment meanwhile."""
    async with AsyncExitStack() as stack:
        doubles: dict[Kind, ScriptedVendor] = {}
        for kind in KINDS:
            doubles[kind] = await ScriptedVendor("engine" if kind == "own" else kind).start()
            stack.push_async_callback(doubles[kind].stop)
        secrets = {name: value for one in doubles.values() for name, value in one.environment.items()}
        stack.enter_context(_Environment(secrets))
        home = Home.make(folder / "home")
        key, entry = home.key()
        urls: dict[Kind, str] = {kind: double.url for kind, double in doubles.items()}
        home.write_snapshot([entry], [*_routes(all_cells(), urls), *_chains(urls)])
        gateway = Gateway(home.settings(ship_interval_s=3600), gateway_id="gw-1")
        await gateway.start()
        stack.push_async_callback(gateway.stop)
        url = await stack.enter_async_context(serve_asgi(gateway))
        tee = Tee()
        http = httpx2.AsyncClient(
            transport=tee, base_url=url, timeout=_PATIENCE_S, headers={"authorization": f"Bearer {key}"}
        )
        stack.push_async_callback(http.aclose)
        bare = httpx2.AsyncClient(transport=tee, timeout=_PATIENCE_S)
        yield Rig(
            doubles=doubles,
            tee=tee,
            openai=openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=bare),
            anthropic=anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0, http_client=bare),
            http=http,
            _spool=next((home.path / "spool").iterdir()),
        )


class _Environment:
    """Variables that are set in between, and one that is not."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in (*self._values, "AWS_BEARER_TOKEN_BEDROCK")}
        os.environ.update(self._values)
        os.environ.pop("AWS_BEARER_TOKEN_BEDROCK", None)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
