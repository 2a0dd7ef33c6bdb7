"""Messages and Responses through a real gateway before an own engine's chat endpoint, driven by the official clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any  # Any: what the rig records

import anthropic
import openai
import pytest

from tests.foundry.gateway.conftest import Rig
from tests.support.scripted_upstream import CACHED_TOKENS, OUTPUT_TOKENS, PROMPT_TOKENS

COST = (
    Decimal(PROMPT_TOKENS - CACHED_TOKENS) * Decimal("0.15")
    + CACHED_TOKENS * Decimal("0.075")
    + OUTPUT_TOKENS * Decimal("0.60")
) / 1_000_000
Make = Callable[..., Awaitable[Rig]]


def claude(rig: Rig, key: str = "good") -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key=rig.keys[key], base_url=rig.url, max_retries=0)


def gpt(rig: Rig) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=rig.keys["good"], base_url=f"{rig.url}/v1", max_retries=0)


def ask(model: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": "count"}]}


def check_record(rig: Rig, protocol: str, **expected: Any) -> None:
    (record,) = rig.records()
    assert record["protocol"] == protocol
    assert (record["input_tokens"], record["cached_input_tokens"], record["output_tokens"]) == (
        PROMPT_TOKENS,
        CACHED_TOKENS,
        OUTPUT_TOKENS,
    )
    assert Decimal(record["cost_usd"]) == COST
    assert {name: record[name] for name in expected} == expected


@pytest.mark.parametrize("route", ["own-ok", "vendor-ok"])
async def test_anthropics_client_streams(rig: Make, route: str) -> None:
    running = await rig()
    async with claude(running) as client, client.messages.stream(**ask(route)) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert message.content[0].type == "text"
    assert message.usage.output_tokens == OUTPUT_TOKENS
    assert message.usage.cache_read_input_tokens == CACHED_TOKENS
    check_record(running, "messages", outcome="completed", usage_source="reported", streamed=True)


async def test_anthropics_client_gets_a_whole_message(rig: Make) -> None:
    running = await rig()
    async with claude(running) as client:
        message = await client.messages.create(**ask("own-ok"))
    assert message.content[0].type == "text"
    check_record(running, "messages", outcome="completed", streamed=False)


@pytest.mark.parametrize(("key", "model", "raised"), [
    ("expired", "own-ok", anthropic.AuthenticationError),
    ("good", "no-such", anthropic.NotFoundError),
    ("good", "own-status-429", anthropic.RateLimitError),
    ("good", "own-status-400", anthropic.BadRequestError),
])  # fmt: skip
async def test_anthropics_client_raises(rig: Make, key: str, model: str, raised: type[Exception]) -> None:
    running = await rig()
    async with claude(running, key) as client:
        with pytest.raises(raised):
            await client.messages.create(**ask(model))
    (record,) = running.records()
    assert record["protocol"] == "messages"


@pytest.mark.parametrize("behaviour", ["die-mid", "error-mid"])
async def test_a_stream_that_breaks_is_told_and_billed(rig: Make, behaviour: str) -> None:
    running = await rig()
    async with claude(running) as client:
        with pytest.raises(anthropic.APIStatusError):
            async for _ in await client.messages.create(stream=True, **ask(f"own-{behaviour}")):
                pass
    async with gpt(running) as client:
        stream = await client.responses.create(model=f"own-{behaviour}", input="count", stream=True)
        events = [event async for event in stream]
    assert events[-1].type == "response.failed", "the protocol's own end, with what was said so far"
    assert (events[-1].response.status, events[-1].response.output_text) == ("failed", "w1 w2 ")
    for record in running.records():
        assert record["outcome"] == "failed"
        assert (record["output_tokens"], record["usage_source"]) == (2, "partial")


async def test_openais_client_streams_a_response(rig: Make) -> None:
    running = await rig()
    async with gpt(running) as client:
        stream = await client.responses.create(model="own-ok", input="count", stream=True, store=False)
        kinds = [event.type async for event in stream]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    check_record(running, "responses", outcome="completed", usage_source="reported", streamed=True)


async def test_openais_client_gets_a_whole_response(rig: Make) -> None:
    running = await rig()
    async with gpt(running) as client:
        response = await client.responses.create(model="own-ok", input="count", store=False)
    assert response.output_text
    assert response.usage is not None
    assert response.usage.input_tokens == PROMPT_TOKENS
    check_record(running, "responses", outcome="completed", streamed=False)
