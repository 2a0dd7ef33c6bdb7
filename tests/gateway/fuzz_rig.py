"""A gateway called without a server, before an upstream that speaks every wire and answers whatever a test wants.

Every record that it spools is counted by its request's id. What it does not know: what is sent, and why.
"""

# Private names: the sink is replaced by one that counts.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from foundry.gateway.app import Gateway
from foundry.gateway.delivery import BrokenOff
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.money import Price
from foundry.types.routing import Health, Retries, Routing
from foundry.types.snapshot import EngineTarget, ProviderTarget, RouteEntry
from foundry.types.usage import UsageRecord
from tests.gateway.bare_asgi import Reply, call
from tests.support.instance import Home
from tests.support.vendor_script import Received, Told
from tests.support.vendor_scripts import SCRIPTS

PRICE = Price(
    price_id="fuzz@1", source="test", input_per_mtok_usd=Decimal(1), output_per_mtok_usd=Decimal(2), per_image_usd=Decimal("0.04"),
    per_audio_second_usd=Decimal("0.0001"), per_mchar_usd=Decimal(15), per_search_usd=Decimal("0.002"),
)  # fmt: skip
WIRES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "bedrock": "bedrock",
    "responses": "openai",
}
"""Route prefix to provider; `own` is an engine."""
BROKEN = -1
"""In the place of a status: the answer had begun, and the connection was cut."""
LONGEST_S = 15.0
"""A request that takes longer hangs."""
_ONCE = Routing(retries=Retries(attempts=0), health=Health(min_requests=1_000_000))


@dataclass(frozen=True)
class Case:
    """One request, well-formed or not."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: tuple[bytes, ...] = (b"",)
    query: bytes = b""
    leaves: bool = False


@dataclass(frozen=True)
class Answer:
    """What the upstream sends: status, type and body; `breaks`: then it closes the connection before the end of the body."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    breaks: bool = False
    step: int = 1 << 20
    """Bytes written at once."""


Answering = Callable[[str, bytes], Answer]
"""Path and body of what was asked of it."""


@dataclass
class Counting:
    """In the spool's place: it counts, then spools."""

    append_to: Callable[[UsageRecord], None]
    records: dict[str, list[UsageRecord]] = field(default_factory=dict)
    total: int = 0

    def append(self, record: UsageRecord) -> None:
        self.total += 1
        self.records.setdefault(record.request_id, []).append(record)
        self.append_to(record)


@dataclass
class Upstream:
    """Every wire, on one port."""

    answering: Answering
    asked: int = 0
    url: str = ""
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64 * 1024 * 1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1]) if length else 0)
                self.asked += 1
                if not await self._answer(head.split(b" ", 2)[1].decode(), body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway closed the connection: it left, or it had enough
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        answer = self.answering(path, body)
        length = len(answer.body) + (1 if answer.breaks else 0)
        writer.write(
            f"HTTP/1.1 {answer.status} X\r\ncontent-type: {answer.content_type}\r\ncontent-length: {length}\r\n\r\n".encode()
        )
        for start in range(0, len(answer.body), answer.step):
            writer.write(answer.body[start : start + answer.step])
            await writer.drain()
            if answer.step < len(answer.body):
                await asyncio.sleep(0)  # the pieces arrive one after the other
        return not answer.breaks


@dataclass
class Rig:
    """What a test sends requests through."""

    gateway: Gateway
    upstream: Upstream
    sink: Counting
    key: str
    sent: int = 0
    last: UsageRecord | None = None
    """Of the last request."""

    def headers(self, *more: tuple[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
        """A valid caller's."""
        return ((b"authorization", f"Bearer {self.key}".encode()), *more)

    async def send(self, case: Case) -> Reply:
        """One request; it must end, be answered as documented and leave one record."""
        self.sent += 1
        before = self.sink.total
        own_id = f"fuzz-{self.sent}"
        headers = ((b"x-request-id", own_id.encode()), *case.headers)
        async with asyncio.timeout(LONGEST_S):
            try:
                reply = await call(
                    self.gateway, case.method, case.path,
                    headers=headers, body=case.body, query=case.query, leaves=case.leaves,
                )  # fmt: skip
            except BrokenOff:  # told by the connection alone: sound, for one, has no error events
                reply = Reply(BROKEN, {}, b"")
        told = reply.headers.get(b"x-request-id", b"").decode() or own_id
        kept = self.sink.records.pop(told, [])
        if reply.status == 0 and not kept and self.sink.total > before:
            kept = next(iter(self.sink.records.values()))  # it had left, and its own id was of no use
        self.sink.records.clear()
        _check(case, reply, kept)
        self.last = kept[0] if kept else None
        return reply

    def tasks(self) -> Counter[str]:
        """What runs in the loop, by name; numbered ones count as one kind."""
        return Counter(re.sub(r"\d+", "", task.get_name()) for task in asyncio.all_tasks())


def _check(case: Case, reply: Reply, kept: Sequence[UsageRecord]) -> None:
    if case.path == "/healthz":
        return
    assert reply.status != 500, (case, reply)
    assert b"internal error" not in reply.body, (case, reply)
    assert reply.status or case.leaves, (case, reply)
    assert len(kept) == 1, (len(kept), case, reply)
    assert kept[0].status == (200 if reply.status == BROKEN else reply.status or 499), (case, reply, kept)
    assert kept[0].e2e_ms < LONGEST_S * 1000, case


def _route(name: str, task: Task, url: str) -> RouteEntry:
    prefix = name.partition("-")[0]
    if prefix == "own":
        target: EngineTarget | ProviderTarget = EngineTarget(
            target_id=f"engine/{name}", deployment=name, model=name, base_url=f"{url}/own", phase=DeploymentPhase.READY, price=PRICE
        )  # fmt: skip
    else:
        target = ProviderTarget(
            target_id=f"{prefix}/{name}",
            provider=WIRES[prefix],
            model=name,
            base_url=f"{url}/{prefix}",
            price=PRICE,
        )
    return RouteEntry(name=name, task=task, targets=(target,), created_at=datetime.now(UTC), routing=_ONCE)


def route_names() -> dict[str, Task]:
    """Every route of the rig and its task."""
    own = {f"own-{task.value}": task for task in Task}
    generate = {f"{wire}-generate": Task.GENERATE for wire in WIRES}
    embed = {f"{wire}-embed": Task.EMBED for wire in ("openai", "gemini", "bedrock")}
    return (
        own
        | generate
        | embed
        | {"openai-image": Task.IMAGE, "openai-speak": Task.SPEAK, "openai-transcribe": Task.TRANSCRIBE}
    )


@asynccontextmanager
async def rig(folder: Path, answering: Answering, **settings: object) -> AsyncGenerator[Rig]:
    """A running one. The environment has the vendors' keys (`ENVIRONMENT`)."""
    home, upstream = Home.make(folder / "home"), Upstream(answering)
    await upstream.start()
    key, entry = home.key()
    home.write_snapshot([entry], [_route(name, task, upstream.url) for name, task in route_names().items()])
    gateway = Gateway(
        home.settings(**{"body_timeout_s": 1.0, "ship_interval_s": 600.0, **settings}), gateway_id="gw-1"
    )
    sink = Counting(gateway.spool.append)
    gateway._lifecycle._delivery._sink = sink
    await gateway.start()
    try:
        yield Rig(gateway, upstream, sink, key)
    finally:
        await gateway.stop()
        await upstream.stop()


ENVIRONMENT = {"OPENAI_API_KEY": "sk-vendor"} | {
    name: value for wire in ("anthropic", "gemini", "bedrock") for name, value in SCRIPTS[wire].environment
}
_CHAT: dict[str, Any] = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "text": "one", "message": {"role": "assistant", "content": "one", "reasoning_content": "hm", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 4}},
    "data": [{"index": 0, "embedding": [0.5], "score": 0.5, "label": "ok", "b64_json": "QQ=="}], "text": "one",
    "results": [{"index": 0, "relevance_score": 0.5, "flagged": False, "categories": {}}], "count": 3,
}  # fmt: skip
_DELTAS: tuple[dict[str, Any], ...] = (
    {"role": "assistant", "content": ""}, {"content": "one "}, {"reasoning_content": "hm"},
    {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{"}}]}, {"content": "two"},
)  # fmt: skip


def openai_frames() -> list[bytes]:
    """A chat stream."""
    base = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": delta, "text": "one", "finish_reason": None}]}
        for delta in _DELTAS
    ]
    chunks += [{**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    chunks += [{**base, "choices": [], "usage": _CHAT["usage"]}]
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


def response_object() -> dict[str, Any]:
    """What a vendor's Responses API answers."""
    item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "one", "annotations": []}]}  # fmt: skip
    usage = {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14, "input_tokens_details": {"cached_tokens": 4},
             "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "m",
        "output": [item],
        "usage": usage,
    }


def response_frames() -> list[bytes]:
    """The same, streamed."""
    whole = response_object()
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**whole["output"][0], "content": []},
        },
        {
            "type": "response.output_text.delta",
            "item_id": "m1",
            "output_index": 0,
            "content_index": 0,
            "delta": "one",
        },
        {"type": "response.completed", "response": whole},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def right_answer(path: str, body: bytes) -> Answer:
    """What an upstream of that wire answers when all is well."""
    wire = path.split("/", 2)[1]
    streams = re.search(rb'"stream"\s*:\s*true', body) is not None
    script = SCRIPTS.get(wire)
    if script is not None:
        received = Received(path, path, {}, {}, body, _members(body))
        if script.streams(received) or streams:
            return Answer(b"".join(script.frames(received, Told(), fat=False)), script.stream_type(received))
        return Answer(json.dumps(script.whole(received, Told())).encode())
    if path.endswith("/responses"):
        return (
            Answer(b"".join(response_frames()), "text/event-stream")
            if streams
            else Answer(json.dumps(response_object()).encode())
        )
    if path.endswith("/speech"):
        return Answer(b"ID3" + bytes(500), "audio/mpeg")
    return (
        Answer(b"".join(openai_frames()), "text/event-stream")
        if streams
        else Answer(json.dumps(_CHAT).encode())
    )


def _members(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
