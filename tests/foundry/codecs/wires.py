"""Answers as targets send them, for the tests of dialects: shapes taken from vLLM 0.32, OpenAI's and Anthropic's references."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any  # Any: JSON of tests

from foundry.codecs.base import Leg, Meter, TargetFacts

ENGINE = TargetFacts(target_id="engine/smollm2", model="smol", running_usage=True)
VENDOR = TargetFacts(target_id="openai/gpt", model="gpt")
CLAUDE = TargetFacts(target_id="anthropic/claude", model="claude-x")

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def sse(*events: object) -> bytes:
    """OpenAI's form: data only, `[DONE]` last."""
    return (
        b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in events)
        + b"data: [DONE]\n\n"
    )


def named(*events: dict[str, Any]) -> bytes:
    """Anthropic's form: every event under its name."""
    return b"".join(
        b"event: "
        + str(event["type"]).encode()
        + b"\ndata: "
        + json.dumps(event, ensure_ascii=False).encode()
        + b"\n\n"
        for event in events
    )


def chunk(
    delta: dict[str, Any] | None,
    finish: str | None = None,
    *,
    index: int = 0,
    usage: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One chunk; None: without choices."""
    choices = (
        []
        if delta is None
        else [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": None, **more}]
    )
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "smol", "choices": choices,
            "usage": usage}  # fmt: skip


def usage(prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """OpenAI's usage."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


OPENAI_STREAM = sse(
    chunk({"role": "assistant", "content": ""}, usage=usage(12, 0)),
    chunk({"reasoning": "Hm, é"}, usage=usage(12, 2)),
    chunk({"content": "Let me "}, usage=usage(12, 3)),
    chunk({"content": "look."}, usage=usage(12, 4)),
    chunk(
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_a",
                    "type": "function",
                    "function": {"name": "weather", "arguments": ""},
                }
            ]
        }
    ),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}, usage=usage(12, 6)),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ' "Oslo"}'}}]}, usage=usage(12, 8)),
    chunk(
        {
            "tool_calls": [
                {"index": 1, "id": "call_b", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
            ]
        }
    ),
    chunk({}, "tool_calls", usage=usage(12, 9)),
    chunk(None, usage=usage(12, 9, cached=5, reasoning=2)),
)

OPENAI_TEXT = sse(
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hello "}),
    chunk({"content": "wörld"}),
    chunk({}, "stop"),
    chunk(None, usage=usage(7, 3, cached=4)),
)

OPENAI_WHOLE = json.dumps(
    {
        "id": "chatcmpl-9",
        "object": "chat.completion",
        "created": 1,
        "model": "smol",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Let me look.",
                    "reasoning": "Hm",
                    "tool_calls": [
                        {
                            "id": "call_a",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                        }
                    ],
                },
                "finish_reason": "tool_calls",
                "logprobs": None,
                "stop_reason": None,
            }
        ],
        "usage": usage(12, 9, cached=5, reasoning=2),
    }
).encode()

_ANTHROPIC_START = {
    "type": "message_start",
    "message": {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 3,
            "output_tokens": 1,
        },
    },
}

ANTHROPIC_STREAM = named(
    _ANTHROPIC_START,
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm, é"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "cmVk"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "Let me "}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "look."}},
    {"type": "content_block_stop", "index": 2},
    {"type": "content_block_start", "index": 3,
     "content_block": {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {}}},
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": ' "Oslo"}'}},
    {"type": "content_block_stop", "index": 3},
    {"type": "content_block_start", "index": 4,
     "content_block": {"type": "tool_use", "id": "toolu_b", "name": "now", "input": {}}},
    {"type": "content_block_stop", "index": 4},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
     "usage": {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 2}}},
    {"type": "message_stop"},
)  # fmt: skip

ANTHROPIC_WHOLE = json.dumps(
    {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "cmVk"},
            {"type": "text", "text": "Let me look.", "citations": None},
            {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {"city": "Oslo"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 3,
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    }
).encode()


def passed(meter: Meter, stream: bytes, size: int) -> bytes:
    """What a caller gets of a stream that arrives in pieces of this size, tail included."""
    out = b"".join(meter.feed(stream[start : start + size]) for start in range(0, len(stream), size))
    return out + meter.close() + meter.tail()


def cuts(stream: bytes) -> Iterable[tuple[bytes, bytes]]:
    """A stream cut in two at every byte."""
    return ((stream[:at], stream[at:]) for at in range(len(stream) + 1))


def in_two(make: Callable[[], Meter], stream: bytes) -> Iterator[tuple[Meter, bytes]]:
    """Every way to cut a stream in two: the meter at its end, and all that went out."""
    for first, second in cuts(stream):
        meter = make()
        out = meter.feed(first) + meter.feed(second) + meter.close() + meter.tail()
        yield meter, out


def events(stream: bytes) -> list[dict[str, Any]]:
    """The data of a stream's events; `[DONE]` left out."""
    lines = [line[5:].strip() for line in stream.split(b"\n") if line.startswith(b"data:")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def sent(leg: Leg, call: Any, target: TargetFacts) -> dict[str, Any]:
    """The body that a leg sends."""
    return json.loads(leg.request(call, target).body)
