"""Every native wire over loopback, as the gateway speaks it: provider row, leg and meter against the scripted vendor.

Each behaviour, whole and streamed, for callers of chat and of messages: what passed, what was counted, how it ended.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from yarl import URL

from foundry.codecs.anthropic_codec import MESSAGES
from foundry.codecs.anthropic_dialect import ANTHROPIC, MESSAGES_CALLER
from foundry.codecs.base import Answer, Call, Leg, Meter, TargetFacts, Told
from foundry.codecs.bedrock import BEDROCK
from foundry.codecs.chat_dialect import CHAT_CALLER, OPENAI_CHAT
from foundry.codecs.cohere import COHERE_RERANK
from foundry.codecs.gemini import GEMINI
from foundry.codecs.openai import CHAT
from foundry.codecs.translate import Translated
from foundry.providers.provider import Provider, provider
from foundry.providers.vendors import Wire
from foundry.types.usage import UsageCounts
from tests.support.scripted_vendor import BEHAVIOURS, ScriptedVendor
from tests.support.vendor_script import INPUT, OUTPUT

TARGETS = {"anthropic": ANTHROPIC, "gemini": GEMINI, "bedrock": BEDROCK, "azure": OPENAI_CHAT}
CALLERS = {"chat": (CHAT, CHAT_CALLER), "messages": (MESSAGES, MESSAGES_CALLER)}
CHAT_WIRES = tuple(TARGETS)
ENDINGS = {"ok", "no-usage"}


@dataclass
class Outcome:
    """One request, from the caller's side."""

    status: int
    text: str
    counts: UsageCounts | None
    ended: bool
    error: str | None = None
    broken: bool = False
    told: Told | None = None
    estimated: int = 0


@dataclass
class Line:
    """A vendor and our client for it."""

    vendor: ScriptedVendor
    provider: Provider
    session: aiohttp.ClientSession

    async def ask(self, leg: Leg, call: Call) -> Outcome:
        wire: Wire = "openai" if self.vendor.wire == "azure" else self.vendor.wire  # type: ignore[assignment]  # a key of SCRIPTS
        target = TargetFacts(f"v/{call.model}", call.model, options=self.provider.options_for(call.model))
        request = leg.request(call, target)
        url = self.provider.url(wire, request.path, model=call.model)
        if not self.provider.fresh:
            await self.provider.refresh()
        auth = self.provider.headers_for(url, request.body, wire=wire)
        headers = {**request.headers, "content-type": request.content_type, **auth}
        try:
            async with self.session.post(
                URL(url, encoded=True), data=request.body, headers=headers
            ) as response:
                return await self._read(leg, call, response)
        except aiohttp.ClientError:
            return Outcome(0, "", None, ended=False, broken=True)

    async def _read(self, leg: Leg, call: Call, response: aiohttp.ClientResponse) -> Outcome:
        if response.status >= 400:
            return Outcome(response.status, "", None, ended=False, told=leg.told(await response.read()))
        kind = response.content_type
        if not leg.streams(kind):
            answer: Answer = leg.answer(call, await response.read(), kind)
            said = answer.body.decode()
            return Outcome(200, said, answer.counts, ended=True, estimated=answer.estimated_output_tokens)
        meter: Meter = leg.meter(call)
        out, broken = b"", False
        try:
            async for data in response.content.iter_any():
                for byte in range(0, len(data), 7):  # cut anywhere
                    out += meter.feed(data[byte : byte + 7])
            out += meter.close()
        except aiohttp.ClientError:
            broken = True
        out += meter.tail() if meter.ended else b""
        counts, estimated = meter.counts(), meter.estimated_output_tokens()
        return Outcome(200, out.decode(), counts, meter.ended, meter.error, broken, estimated=estimated)


@pytest_asyncio.fixture
async def line(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    vendor = await ScriptedVendor(request.param).start()
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    for name, value in vendor.environment.items():
        monkeypatch.setenv(name, value)
    async with aiohttp.ClientSession() as session:
        yield Line(vendor, provider(vendor.provider, base_url=vendor.url), session)
    await vendor.stop()


def call(model: str, *, stream: bool, caller: str = "chat") -> Call:
    body: dict[str, object] = {
        "model": model,
        "stream": stream,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "count"}],
    }
    if caller == "chat" and stream:
        body["stream_options"] = {"include_usage": True}
    codec, _ = CALLERS[caller]
    return codec.parse(json.dumps(body).encode(), "application/json")


def said(text: str, *, stream: bool) -> str:
    """The words in a chat caller's answer."""
    if not stream:
        return json.loads(text)["choices"][0]["message"]["content"]
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("line", CHAT_WIRES, indirect=True)
async def test_chat(line: Line, behaviour: str, stream: bool) -> None:
    leg = Translated(CHAT_CALLER, TARGETS[line.vendor.wire])
    found = await line.ask(leg, call(behaviour, stream=stream))
    if behaviour == "die-before":
        assert found.broken
        return
    if behaviour == "error-mid" and not stream:
        assert (found.status, found.told and found.told.message) == (500, "scripted failure")
        return
    if behaviour in ENDINGS:
        assert found.ended
        assert found.error is None
        assert said(found.text, stream=stream) == "one two three"
        assert found.counts == (line.vendor.counts if behaviour == "ok" else None)
        assert not stream or found.text.endswith("data: [DONE]\n\n")
        assert behaviour == "ok" or found.estimated >= 3
        return
    assert not found.ended
    assert found.broken == (behaviour != "error-mid")
    if not stream:
        return
    assert (found.error is not None) == (behaviour == "error-mid")
    assert found.error is None or "scripted failure" in found.error
    assert "[DONE]" not in found.text
    assert said(found.text, stream=True).startswith("one two")
    if found.counts is not None:
        assert found.counts.input_tokens == INPUT
        assert 2 <= found.counts.output_tokens <= OUTPUT


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("line", ["gemini", "bedrock", "azure"], indirect=True)
async def test_messages(line: Line, stream: bool) -> None:
    leg = Translated(MESSAGES_CALLER, TARGETS[line.vendor.wire])
    found = await line.ask(leg, call("ok", stream=stream, caller="messages"))
    assert found.counts == line.vendor.counts
    assert found.ended
    if not stream:
        content = json.loads(found.text)["content"]
        assert [block["text"] for block in content if block["type"] == "text"] == ["one two three"]
        return
    events = [json.loads(line[6:]) for line in found.text.splitlines() if line.startswith("data: ")]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "one two three"
    assert events[-1]["type"] == "message_stop"


@pytest.mark.parametrize("status", [400, 429, 500, 503])
@pytest.mark.parametrize("line", [*CHAT_WIRES, "cohere"], indirect=True)
async def test_error_answers_are_told_in_the_vendors_words(line: Line, status: int) -> None:
    if line.vendor.wire == "cohere":
        fields = {"query": msgspec.Raw(b'"q"'), "documents": msgspec.Raw(b'["a"]')}
        found = await line.ask(COHERE_RERANK, Call(model=f"status-{status}", stream=False, fields=fields))
    else:
        leg = Translated(CHAT_CALLER, TARGETS[line.vendor.wire])
        found = await line.ask(leg, call(f"status-{status}", stream=True))
    assert (found.status, found.told and found.told.message) == (status, f"scripted status-{status}")


@pytest.mark.parametrize("line", [*CHAT_WIRES], indirect=True)
async def test_a_wrong_key_is_refused_by_the_double(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in line.vendor.environment:
        monkeypatch.setenv(name, "AKWRONG" if name == "AWS_ACCESS_KEY_ID" else "wrong")
    line.provider = provider(line.vendor.provider, base_url=line.vendor.url)
    leg = Translated(CHAT_CALLER, TARGETS[line.vendor.wire])
    found = await line.ask(leg, call("ok", stream=False))
    assert found.status in (400, 401, 403)


@pytest.mark.parametrize("line", ["azure"], indirect=True)
async def test_azure_gets_the_deployment_in_its_path(line: Line) -> None:
    await line.ask(Translated(CHAT_CALLER, OPENAI_CHAT), call("ok", stream=False))
    (received,) = line.vendor.requests
    assert received.path == "/openai/deployments/ok/chat/completions"
    assert received.query == {"api-version": "2024-10-21"}
