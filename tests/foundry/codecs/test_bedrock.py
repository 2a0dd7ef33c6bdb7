"""Bedrock's requests (each checked against AWS's own service model) and answers, in its binary framing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from botocore.validate import ParamValidator

from foundry.codecs.base import TargetFacts
from foundry.codecs.bedrock import BEDROCK
from foundry.errors import InvalidParameter, UnsupportedParameter, UpstreamBroke
from foundry.types.chat import (
    Audio,
    ChatEvent,
    ChatRequest,
    Counted,
    Ended,
    Failed,
    File,
    Finished,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    ReasoningDelta,
    Started,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
)
from foundry.types.usage import UsageCounts
from tests.support.bedrock_script import converse_shape, event, event_frame

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
TARGET = TargetFacts("bedrock/claude", MODEL, options={"thinking": "budget"})
NEWER = TargetFacts("bedrock/claude-5", "us.anthropic.claude-opus-5-v1:0", options={"thinking": "adaptive"})
NOVA = TargetFacts(
    "bedrock/nova",
    "amazon.nova-2-lite-v1:0",
    options={"thinking": "nova", "top_k_path": "inferenceConfig.topK"},
)
LLAMA = TargetFacts("bedrock/llama", "meta.llama3-70b-instruct-v1:0")
WEATHER = Tool("weather", "now", msgspec.Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))
HELLO = Message("user", (Text("hello"),))
EXTRA = "additionalModelRequestFields"
CACHE_POINT = {"cachePoint": {"type": "default"}}


def written(request: ChatRequest, target: TargetFacts = TARGET) -> dict[str, Any]:
    """The body, after AWS's own model found nothing wrong with it."""
    body = json.loads(BEDROCK.write_request(request, target).body)
    report = ParamValidator().validate({"modelId": target.model, **body}, converse_shape())
    assert not report.has_errors(), report.generate_report()
    return body


def asked(**fields: Any) -> ChatRequest:
    fields.setdefault("messages", (HELLO,))
    return ChatRequest(**fields)


def events(*frames: bytes, step: int = 9) -> list[ChatEvent]:
    data = b"".join(frames)
    reader = BEDROCK.reader()
    found = [event for at in range(0, len(data), step) for event in reader.feed(data[at : at + step])]
    return [*found, *reader.close()]


def delta(index: int, **fields: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": fields})


def test_paths_escape_colons_and_slashes() -> None:
    path = BEDROCK.write_request(asked(), TARGET).path
    assert path == "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"
    arn = TargetFacts("bedrock/p", "arn:aws:bedrock:us-east-1:1:provisioned-model/x")
    streamed = BEDROCK.write_request(asked(stream=True), arn).path
    assert streamed == "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprovisioned-model%2Fx/converse-stream"


def test_a_whole_request() -> None:
    tool = msgspec.structs.replace(WEATHER, strict=True, cache_breakpoint=True)
    body = written(
        asked(
            messages=(Message("system", (Text("be brief", cache_breakpoint=True),)), HELLO),
            max_output_tokens=7, temperature=0.5, top_p=0.9, top_k=3, stop=("a",), tools=(tool,),
            tool_choice=ToolChoice("named", "weather"),
            output_format=OutputFormat("json_schema", name="n", schema=msgspec.Raw(b'{"type":"object"}')),
        )
    )  # fmt: skip
    assert body["system"] == [{"text": "be brief"}, CACHE_POINT]
    assert body["messages"] == [{"role": "user", "content": [{"text": "hello"}]}]
    assert body["inferenceConfig"] == {
        "maxTokens": 7,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["a"],
    }
    spec = {"name": "weather", "description": "now", "strict": True}
    schema = {"json": {"type": "object", "properties": {"city": {"type": "string"}}}}
    assert body["toolConfig"] == {
        "tools": [{"toolSpec": {**spec, "inputSchema": schema}}, CACHE_POINT],
        "toolChoice": {"tool": {"name": "weather"}},
    }
    wanted = {"jsonSchema": {"schema": '{"type":"object"}', "name": "n"}}
    assert body["outputConfig"] == {"textFormat": {"type": "json_schema", "structure": wanted}}
    assert body["additionalModelRequestFields"] == {"top_k": 3}


def test_pictures_sound_and_documents() -> None:
    parts = (
        Text("look", cache_breakpoint=True),
        Text(""),
        Image(data_base64="aGk=", media_type="image/jpeg"),
        Image(url="s3://bucket/cat.png"),
        Audio("aGk=", "mp3"),
        File(data_base64="aGk=", media_type="text/csv", filename="q3_(final)__x.csv"),
    )
    (turn,) = written(asked(messages=(Message("user", parts),)))["messages"]
    assert turn["content"] == [
        {"text": "look"},
        CACHE_POINT,
        {"image": {"format": "jpeg", "source": {"bytes": "aGk="}}},
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/cat.png"}}}},
        {"audio": {"format": "mp3", "source": {"bytes": "aGk="}}},
        {"document": {"format": "csv", "name": "q3 (final) x csv", "source": {"bytes": "aGk="}}},
    ]


def test_turns_alternate_and_thoughts_go_back_only_when_signed() -> None:
    messages = (
        HELLO,
        Message(
            "assistant",
            (
                Reasoning("hm", signature="c2ln"),
                Reasoning("unsigned"),
                Reasoning("theirs", signature="gemini:c2ln"),
                Reasoning(redacted_base64="aGk="),
                ToolCall("t1", "weather", '{"city":"Bern"}'),
                ToolCall("t2", "weather", ""),
            ),
        ),
        Message(
            "tool",
            (
                ToolResult(
                    "t1",
                    (Text("4"), Image(data_base64="aGk=")),
                ),
            ),
        ),
        Message("tool", (ToolResult("t2", (Text("5"),), is_error=True),)),
        Message("user", (Text("and?"),)),
    )
    _, model, user = written(asked(messages=messages, tools=(WEATHER,)))["messages"]
    assert model["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "aGk="}},
        {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Bern"}}},
        {"toolUse": {"toolUseId": "t2", "name": "weather", "input": {}}},
    ]
    picture = {"image": {"format": "png", "source": {"bytes": "aGk="}}}
    assert user["content"] == [
        {"toolResult": {"toolUseId": "t1", "content": [{"text": "4"}, picture]}},
        {"toolResult": {"toolUseId": "t2", "content": [{"text": "5"}], "status": "error"}},
        {"text": "and?"},
    ]


@pytest.mark.parametrize(
    ("fields", "target", "expected"),
    [
        ({"reasoning_effort": "low"}, TARGET, {EXTRA: {"thinking": {"type": "enabled", "budget_tokens": 2048}}}),
        ({"reasoning_budget_tokens": 3000}, TARGET, {EXTRA: {"thinking": {"type": "enabled", "budget_tokens": 3000}}}),
        ({"reasoning_effort": "max"}, NEWER, {EXTRA: {"thinking": {"type": "adaptive"}}, "outputConfig": {"effort": "max"}}),
        ({"reasoning_effort": "high"}, NOVA, {EXTRA: {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}}),
        ({"top_k": 5}, NOVA, {EXTRA: {"inferenceConfig": {"topK": 5}}}),
        ({"reasoning_effort": "none"}, LLAMA, {}),
        ({"others": {EXTRA: msgspec.Raw(b'{"x":1}')}}, LLAMA, {EXTRA: {"x": 1}}),
        ({"others": {"serviceTier": msgspec.Raw(b'{"type":"flex"}')}}, LLAMA, {"serviceTier": {"type": "flex"}}),
        ({"tools": (WEATHER,), "tool_choice": ToolChoice("none")}, LLAMA, {}),
    ],
)  # fmt: skip
def test_what_models_want_beside_the_common_members(
    fields: dict[str, Any], target: TargetFacts, expected: dict[str, Any]
) -> None:
    body = written(asked(**fields), target)
    assert {name: value for name, value in body.items() if name != "messages"} == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"), ({"seed": 1}, "seed"), ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.1}, "presence_penalty"), ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"tools": (WEATHER,), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"output_format": OutputFormat("json_object")}, "response_format"),
        ({"reasoning_effort": "low"}, "reasoning_effort"), ({"reasoning_budget_tokens": 9}, "thinking"),
        ({"others": {"logit_bias": msgspec.Raw(b"{}")}}, "logit_bias"),
        ({"messages": (Message("user", (Image(url="https://x.example/a.png"),)),)}, "messages"),
        ({"messages": (Message("user", (Image(data_base64="x", media_type="image/tiff"),)),)}, "messages"),
        ({"messages": (Message("user", (File(file_id="f"),)),)}, "messages"),
        (
            {
                "tools": (WEATHER,), "tool_choice": ToolChoice("none"),
                "messages": (HELLO, Message("assistant", (ToolCall("a", "weather", "{}"),))),
            },
            "tool_choice",
        ),
    ],
)  # fmt: skip
def test_what_it_has_not_is_named_with_the_target(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter, match=LLAMA.target_id) as caught:
        BEDROCK.write_request(asked(**fields), LLAMA)
    assert caught.value.param == param


def test_what_the_family_refuses_is_refused_here() -> None:
    target = TargetFacts(
        "bedrock/c5", "us.anthropic.claude-sonnet-5-v1:0", options={"refuses": "temperature,top_k"}
    )
    for fields in ({"temperature": 0.5}, {"top_k": 3}):
        with pytest.raises(UnsupportedParameter, match="bedrock/c5") as caught:
            BEDROCK.write_request(asked(**fields), target)
        assert caught.value.param == next(iter(fields))
    written(asked(top_p=0.5), target)


def test_arguments_that_are_no_object_are_the_callers_fault() -> None:
    broken = Message("assistant", (ToolCall("a", "weather", "[1]"),))
    with pytest.raises(InvalidParameter):
        BEDROCK.write_request(asked(messages=(HELLO, broken)), TARGET)


def test_a_whole_answer_counts_cache_reads_and_writes_as_input() -> None:
    content = [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "aGk="}},
        {"text": "so"},
        {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Bern"}}},
    ]
    usage = {
        "inputTokens": 10,
        "outputTokens": 7,
        "totalTokens": 17,
        "cacheReadInputTokens": 100,
        "cacheWriteInputTokens": 50,
    }
    body = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "tool_use",
        "usage": usage,
    }
    answer = BEDROCK.read_answer(json.dumps(body).encode(), "application/json")
    assert answer.counts == UsageCounts(
        input_tokens=160, cached_input_tokens=100, cache_write_tokens=50, output_tokens=7
    )
    (choice,) = answer.choices
    assert choice.parts == (
        Reasoning("hm", signature="c2ln"),
        Reasoning(redacted_base64="aGk="),
        Text("so"),
        ToolCall("t1", "weather", '{"city": "Bern"}'),
    )
    assert choice.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("tool_use", "tool_calls"),
        ("model_context_window_exceeded", "length"), ("content_filtered", "content_filter"),
        ("guardrail_intervened", "content_filter"), ("malformed_tool_use", "stop"),
    ],
)  # fmt: skip
def test_stop_reasons(reason: str, expected: str) -> None:
    body = {"output": {"message": {"content": []}}, "stopReason": reason}
    assert BEDROCK.read_answer(json.dumps(body).encode(), "").choices[0].finish_reason == expected
    assert Finished(expected) in events(event("messageStop", {"stopReason": reason}))  # type: ignore[arg-type]  # from a table


@pytest.mark.parametrize("step", [1, 13, 10_000])
def test_a_stream_cut_anywhere(step: int) -> None:
    usage = {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17, "cacheReadInputTokens": 1}
    start = {"toolUse": {"toolUseId": "t1", "name": "weather"}}
    found = events(
        event("messageStart", {"role": "assistant"}),
        delta(0, reasoningContent={"text": "hm"}),
        delta(0, reasoningContent={"signature": "c2ln"}),
        delta(0, reasoningContent={"redactedContent": "aGk="}),
        event("contentBlockStop", {"contentBlockIndex": 0}),
        delta(1, text="so"),
        event("contentBlockStart", {"contentBlockIndex": 2, "start": start}),
        delta(2, toolUse={"input": '{"city":'}),
        delta(2, toolUse={"input": '"Bern"}'}),
        event("contentBlockStop", {"contentBlockIndex": 2}),
        event(
            "contentBlockStart",
            {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t2", "name": "now"}}},
        ),
        event("contentBlockStop", {"contentBlockIndex": 3}),
        event("messageStop", {"stopReason": "tool_use"}),
        event("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}),
        step=step,
    )
    assert isinstance(found[0], Started)
    assert found[1:] == [
        ReasoningDelta("hm"),
        ReasoningDelta(signature="c2ln"),
        ReasoningDelta(redacted_base64="aGk="),
        TextDelta("so"),
        ToolCallDelta(0, id="t1", name="weather"),
        ToolCallDelta(0, '{"city":'),
        ToolCallDelta(0, '"Bern"}'),
        ToolCallDelta(1, id="t2", name="now"),
        ToolCallDelta(1, "{}"),
        Finished("tool_calls"),
        Counted(UsageCounts(input_tokens=11, cached_input_tokens=1, output_tokens=7)),
        Ended(),
    ]


@pytest.mark.parametrize(
    ("headers", "payload", "words"),
    [
        (
            {":message-type": "exception", ":exception-type": "throttlingException"},
            {"message": "Too many requests"},
            "throttlingException: Too many requests",
        ),
        (
            {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "sorry"},
            {},
            "InternalFailure: sorry",
        ),
    ],
)
def test_exceptions_inside_a_stream(headers: dict[str, str], payload: dict[str, Any], words: str) -> None:
    assert events(delta(0, text="a"), event_frame(headers, payload)) == [TextDelta("a"), Failed(words)]


def test_events_that_are_new_are_left_out_and_damaged_ones_break() -> None:
    assert events(event("somethingNew", {"a": 1})) == []
    damaged = bytearray(event("messageStart", {"role": "assistant"}))
    damaged[-1] ^= 1
    with pytest.raises(UpstreamBroke, match="event stream"):
        events(bytes(damaged))
    with pytest.raises(UpstreamBroke):
        BEDROCK.read_answer(b"<html>", "text/html")


@pytest.mark.parametrize("body", [b'{"message":"no"}', b'{"Message":"no"}', b"no"])
def test_errors_in_every_shape(body: bytes) -> None:
    assert BEDROCK.told(body).message == "no"
