"""The official clients read what we write: their requests go through codec and leg, a scripted target's bytes come back."""

from __future__ import annotations

import json
from typing import Any  # Any: JSON of tests

import anthropic
import httpx2
import openai
import pytest
from openai.types.responses import ResponseCompletedEvent, ResponseFunctionToolCall

from foundry.codecs.anthropic_codec import COUNT_TOKENS, MESSAGES
from foundry.codecs.base import Codec, TargetFacts
from foundry.codecs.chat_legs import CHAT_LEGS
from foundry.codecs.openai import CHAT
from foundry.codecs.responses_codec import RESPONSES
from foundry.errors import FoundryError, UpstreamBroke
from foundry.types.usage import UsageCounts
from tests.foundry.codecs import wires
from tests.foundry.codecs.wires import CLAUDE, ENGINE, WEATHER

OPENAI_COUNTS = UsageCounts(input_tokens=12, cached_input_tokens=5, output_tokens=9, reasoning_tokens=2)
ANTHROPIC_COUNTS = UsageCounts(
    input_tokens=12, cached_input_tokens=4, cache_write_tokens=3, output_tokens=9, reasoning_tokens=2
)


class Gateway(httpx2.BaseTransport):
    """Codec and leg of one pair before a target that answers with given bytes."""

    def __init__(
        self, codec: Codec, wire: str, target: TargetFacts, answer: bytes, *, fails_after: int | None = None
    ) -> None:
        self.codec = codec
        self.leg = CHAT_LEGS[codec.name, wire]
        self.target = target
        self.answer = answer
        self.fails_after = fails_after
        self.asked: dict[str, Any] = {}
        self.counts: UsageCounts | None = None

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == self.codec.path
        try:
            call = self.codec.parse(request.read(), request.headers["content-type"])
            self.asked = json.loads(self.leg.request(call, self.target).body)
        except FoundryError as error:
            body = self.codec.error_body(error, "req_1")
            return httpx2.Response(error.status, content=body, headers={"content-type": "application/json"})
        if not call.stream:
            answer = self.leg.answer(call, self.answer, "application/json")
            self.counts = answer.counts
            return httpx2.Response(200, content=answer.body, headers={"content-type": answer.content_type})
        meter = self.leg.meter(call)
        if self.fails_after is None:
            body = wires.passed(meter, self.answer, 7)
            assert meter.started
            assert meter.ended
        else:
            error = UpstreamBroke("gone")
            body = meter.feed(self.answer[: self.fails_after]) + (
                self.codec.error_event(error, "req_1") or b""
            )
        self.counts = meter.counts()
        return httpx2.Response(
            200, content=body, headers={"content-type": self.codec.stream_type("text/event-stream")}
        )


def claude(gateway: Gateway) -> anthropic.Anthropic:
    client = httpx2.Client(transport=gateway)
    return anthropic.Anthropic(api_key="fk-x", base_url="http://gateway", http_client=client, max_retries=0)


def gpt(gateway: Gateway) -> openai.OpenAI:
    client = httpx2.Client(transport=gateway)
    return openai.OpenAI(api_key="fk-x", base_url="http://gateway/v1", http_client=client, max_retries=0)


# Any: the SDKs' typed dicts are stricter than their protocols
TOOL: Any = {"name": "weather", "description": "Looks out", "input_schema": WEATHER}


@pytest.mark.parametrize(
    ("wire", "target", "stream", "counts"),
    [
        ("openai", ENGINE, wires.OPENAI_STREAM, OPENAI_COUNTS),
        ("anthropic", CLAUDE, wires.ANTHROPIC_STREAM, ANTHROPIC_COUNTS),
    ],
)
def test_anthropic_sdk_streams(wire: str, target: TargetFacts, stream: bytes, counts: UsageCounts) -> None:
    gateway = Gateway(MESSAGES, wire, target, stream)
    with claude(gateway).messages.stream(
        model="public",
        max_tokens=100,
        messages=[{"role": "user", "content": "Weather in Oslo?"}],
        tools=[TOOL],
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as opened:
        kinds = [event.type for event in opened]
        message = opened.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop")
    assert message.stop_reason == "tool_use"
    assert "".join(block.text for block in message.content if block.type == "text") == "Let me look."
    assert [block.thinking for block in message.content if block.type == "thinking"] == ["Hm, é"]
    uses = [block for block in message.content if block.type == "tool_use"]
    assert uses[0].input == {"city": "Oslo"}
    assert len(uses) == 2
    assert message.usage.output_tokens == 9
    assert message.usage.cache_read_input_tokens == counts.cached_input_tokens
    assert (
        message.usage.input_tokens
        == counts.input_tokens - counts.cached_input_tokens - counts.cache_write_tokens
    )
    assert gateway.counts == counts
    assert gateway.asked["model"] == target.model


@pytest.mark.parametrize(
    ("wire", "target", "whole", "counts"),
    [
        ("openai", ENGINE, wires.OPENAI_WHOLE, OPENAI_COUNTS),
        ("anthropic", CLAUDE, wires.ANTHROPIC_WHOLE, ANTHROPIC_COUNTS),
    ],
)
def test_anthropic_sdk_reads_whole_answers(
    wire: str, target: TargetFacts, whole: bytes, counts: UsageCounts
) -> None:
    gateway = Gateway(MESSAGES, wire, target, whole)
    message = claude(gateway).messages.create(
        model="public", max_tokens=100, messages=[{"role": "user", "content": "Weather?"}]
    )
    assert message.stop_reason == "tool_use"
    assert [block.type for block in message.content if block.type in ("text", "tool_use")] == [
        "text",
        "tool_use",
    ]
    assert gateway.counts == counts


def test_anthropic_sdk_raises_on_our_errors() -> None:
    gateway = Gateway(MESSAGES, "openai", wires.VENDOR, b"")
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude(gateway).messages.create(
            model="public", max_tokens=9, messages=[{"role": "user", "content": "x"}], extra_body={"top_k": 3}
        )
    assert "top_k" in str(caught.value)
    assert "openai/gpt" in str(caught.value)


def test_anthropic_sdk_raises_when_a_stream_breaks() -> None:
    gateway = Gateway(MESSAGES, "openai", ENGINE, wires.OPENAI_TEXT, fails_after=400)
    with pytest.raises(anthropic.APIStatusError, match="gone"):
        list(
            claude(gateway).messages.create(
                model="public", max_tokens=9, stream=True, messages=[{"role": "user", "content": "x"}]
            )
        )


def test_anthropic_sdk_counts_tokens() -> None:
    gateway = Gateway(COUNT_TOKENS, "openai", ENGINE, b'{"count": 41, "max_model_len": 9, "tokens": [1]}')
    counted = claude(gateway).messages.count_tokens(
        model="public",
        system="Be brief",
        messages=[{"role": "user", "content": "x"}],
        tools=[TOOL],
    )
    assert counted.input_tokens == 41
    assert gateway.asked["messages"][0] == {"role": "system", "content": "Be brief"}
    assert gateway.asked["tools"][0]["function"]["name"] == "weather"
    assert gateway.counts == UsageCounts()


CHAT_TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
RESPONSES_TOOL: Any = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}


@pytest.mark.parametrize(
    ("wire", "target", "stream", "counts"),
    [
        ("openai", ENGINE, wires.OPENAI_STREAM, OPENAI_COUNTS),
        ("anthropic", CLAUDE, wires.ANTHROPIC_STREAM, ANTHROPIC_COUNTS),
    ],
)
def test_openai_sdk_streams_responses(
    wire: str, target: TargetFacts, stream: bytes, counts: UsageCounts
) -> None:
    gateway = Gateway(RESPONSES, wire, target, stream)
    opened = gpt(gateway).responses.create(
        model="public",
        input="Weather in Oslo?",
        instructions="Be brief",
        tools=[RESPONSES_TOOL],
        metadata={"a": "b"},
        stream=True,
        store=False,
    )
    seen = list(opened)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))  # type: ignore[union-attr]  # all have it
    kinds = [event.type for event in seen]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    last = seen[-1]
    assert isinstance(last, ResponseCompletedEvent)
    response = type(last.response).model_validate(last.response.model_dump(mode="json"), strict=False)
    assert response.output_text == "Let me look."
    calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    assert json.loads(calls[0].arguments) == {"city": "Oslo"}
    assert response.usage is not None
    assert response.usage.input_tokens == counts.input_tokens
    assert response.usage.input_tokens_details.cached_tokens == counts.cached_input_tokens
    assert response.usage.output_tokens_details.reasoning_tokens == 2
    assert response.metadata == {"a": "b"}
    assert gateway.counts == counts
    assert (
        kinds.count("response.output_item.added")
        == kinds.count("response.output_item.done")
        == len(response.output)
    )


def test_openai_sdk_helper_accumulates_our_responses() -> None:
    gateway = Gateway(RESPONSES, "openai", ENGINE, wires.OPENAI_STREAM)
    with gpt(gateway).responses.stream(model="public", input="x") as opened:
        for _ in opened:
            pass
        final = opened.get_final_response()
    assert final.output_text == "Let me look."


@pytest.mark.parametrize(
    ("wire", "target", "whole"),
    [("openai", ENGINE, wires.OPENAI_WHOLE), ("anthropic", CLAUDE, wires.ANTHROPIC_WHOLE)],
)
def test_openai_sdk_reads_whole_responses(wire: str, target: TargetFacts, whole: bytes) -> None:
    gateway = Gateway(RESPONSES, wire, target, whole)
    response = gpt(gateway).responses.create(model="public", input="x")
    checked = type(response).model_validate_json(response.model_dump_json())
    assert checked.output_text == "Let me look."
    assert checked.status == "completed"
    assert checked.model == "public"


def test_openai_sdk_raises_when_a_response_breaks() -> None:
    gateway = Gateway(RESPONSES, "openai", ENGINE, wires.OPENAI_TEXT, fails_after=400)
    with pytest.raises(openai.APIError, match="gone"):
        list(gpt(gateway).responses.create(model="public", input="x", stream=True))


def test_openai_sdk_streams_chat_from_anthropic() -> None:
    gateway = Gateway(CHAT, "anthropic", CLAUDE, wires.ANTHROPIC_STREAM)
    with gpt(gateway).chat.completions.stream(
        model="public",
        messages=[{"role": "user", "content": "x"}],
        stream_options={"include_usage": True},
        tools=[CHAT_TOOL],
    ) as opened:
        for _ in opened:
            pass
        final = opened.get_final_completion()
    message = final.choices[0].message
    assert message.content == "Let me look."
    assert message.tool_calls is not None
    assert [call.function.name for call in message.tool_calls if call.type == "function"] == [
        "weather",
        "now",
    ]
    assert message.tool_calls[0].function.arguments == '{"city": "Oslo"}'  # type: ignore[union-attr]  # functions both
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.usage is not None
    assert final.usage.prompt_tokens == 12
    assert gateway.counts == ANTHROPIC_COUNTS


def test_openai_sdk_reads_whole_chat_from_anthropic() -> None:
    gateway = Gateway(CHAT, "anthropic", CLAUDE, wires.ANTHROPIC_WHOLE)
    answer = gpt(gateway).chat.completions.create(model="public", messages=[{"role": "user", "content": "x"}])
    checked = type(answer).model_validate_json(answer.model_dump_json())
    assert checked.choices[0].message.content == "Let me look."
    assert checked.usage is not None
    assert checked.usage.total_tokens == 21
