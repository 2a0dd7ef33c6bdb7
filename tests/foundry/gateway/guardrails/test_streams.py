"""A stream cut anywhere: nothing that a guard would find goes out, everything else does, in order."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from foundry.errors import GuardrailBlocked
from foundry.gateway.guardrails.base import Said
from foundry.gateway.guardrails.engine import Cut
from foundry.gateway.guardrails.streams import StreamGuard

NUMBER = re.compile(r"\d{3}-\d{4}")
TEXT = "call 555-0199 now, or 555-0142 later; never 5550. ok 555-0100"


def _judge(
    action: str = "redact", seen: list[str] | None = None
) -> Callable[[list[Said]], Awaitable[list[Cut]]]:
    async def judge(said: list[Said]) -> list[Cut]:
        cuts = [
            Cut(number, *match.span(), "N")
            for number, one in enumerate(said)
            for match in NUMBER.finditer(one.text)
        ]
        if seen is not None:
            seen.extend(one.text for one in said)
        if cuts and action == "block":
            raise GuardrailBlocked("no numbers")
        return cuts

    return judge


def _guard(
    *, window_chars: int = 12, stride_chars: int = 0, action: str = "redact", whole: bool = False
) -> StreamGuard:
    judge = _judge(action)
    return StreamGuard(
        window=None if whole else judge,
        whole=judge if whole else None,
        window_chars=window_chars,
        stride_chars=stride_chars,
    )


def _data(value: dict[str, Any], event: str = "") -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def _chat(text: str, size: int) -> list[bytes]:
    deltas = [{"content": text[at : at + size]} for at in range(0, len(text), size)]
    chunks = [
        {"choices": [{"index": 0, "delta": d, "finish_reason": None}]}
        for d in ({"role": "assistant"}, *deltas)
    ]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [
        *(_data(chunk) for chunk in chunks),
        _data(end),
        _data({"choices": [], "usage": {"prompt_tokens": 1}}),
    ]


def _objects(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(event[event.index(b"{") :]) for event in stream.split(b"\n\n") if b"{" in event]


def _content(stream: bytes) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in _objects(stream)
        for choice in chunk.get("choices", [])
    )


async def _pass(guard: StreamGuard, events: list[bytes]) -> bytes:
    out = b"".join([await guard.feed(event) for event in events])
    return out + await guard.finish()


@pytest.mark.parametrize("size", range(1, 14))
@pytest.mark.parametrize("stride", [0, 12])
async def test_however_it_is_cut_the_same_is_redacted(size: int, stride: int) -> None:
    out = await _pass(_guard(stride_chars=stride), _chat(TEXT, size))
    assert _content(out) == NUMBER.sub("<N>", TEXT)
    assert len(_objects(out)) == len(_chat(TEXT, size))  # no event is lost
    assert _objects(out)[-1] == {"choices": [], "usage": {"prompt_tokens": 1}}


@pytest.mark.parametrize("size", range(1, 14))
async def test_a_block_comes_before_the_first_character_of_what_it_is_about(size: int) -> None:
    guard, out = _guard(action="block"), b""
    with pytest.raises(GuardrailBlocked):
        for event in _chat("x" * 30 + " 555-0199", size):
            out += await guard.feed(event)
        out += await guard.finish()
    assert set(_content(out)) <= {"x", " "}


async def test_text_flows_while_nothing_is_wrong_and_the_window_is_what_stays_behind() -> None:
    guard, sent = _guard(window_chars=10), ""
    for number, event in enumerate(_chat("a" * 100, 5)[1:21], start=1):
        sent += _content(await guard.feed(event))
        assert len(sent) >= number * 5 - 10 - 5
        assert len(sent) <= number * 5 - 10 or number * 5 <= 10
    assert sent


async def test_what_could_still_grow_is_waited_for() -> None:
    grows = re.compile(r"sk-\w+")

    async def judge(said: list[Said]) -> list[Cut]:
        return [Cut(n, *m.span(), "KEY") for n, one in enumerate(said) for m in grows.finditer(one.text)]

    guard = StreamGuard(window=judge, whole=None, window_chars=8, stride_chars=0)
    out = await _pass(guard, _chat("key sk-" + "a1" * 40 + " end", 3))
    assert _content(out) == "key <KEY> end"


async def test_choices_and_tool_calls_are_channels_of_their_own() -> None:
    def chunk(index: int, **delta: Any) -> bytes:
        return _data({"choices": [{"index": index, "delta": delta, "finish_reason": None}]})

    def call(number: int, text: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": number, "function": {"arguments": text}}]}

    events = [
        chunk(0, content="555-"), chunk(1, content="0199"), chunk(0, content="0199"), chunk(1, content=" fine"),
        chunk(0, **call(0, '{"t":"555-')), chunk(0, **call(1, "0142")), chunk(0, **call(0, '0142"}')),
    ]  # fmt: skip
    out = _objects(await _pass(_guard(), events))
    said: dict[tuple[int, str], str] = {}
    for event in out:
        for choice in event["choices"]:
            delta = choice["delta"]
            for one in delta.get("tool_calls", []):
                name = (choice["index"], f"call{one['index']}")
                said[name] = said.get(name, "") + one["function"]["arguments"]
            if "content" in delta:
                said[choice["index"], "content"] = (
                    said.get((choice["index"], "content"), "") + delta["content"]
                )
    assert said == {
        (0, "content"): "<N>",
        (1, "content"): "0199 fine",
        (0, "call0"): '{"t":"<N>"}',
        (0, "call1"): "0142",
    }


async def test_a_guard_of_whole_answers_holds_the_stream_to_its_end() -> None:
    guard = _guard(whole=True)
    assert [await guard.feed(event) for event in _chat(TEXT, 5)] == [b""] * len(_chat(TEXT, 5))
    assert _content(await guard.finish()) == NUMBER.sub("<N>", TEXT)


async def test_anthropics_events() -> None:
    deltas = [TEXT[at : at + 4] for at in range(0, len(TEXT), 4)]
    events = [
        _data(
            {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": []}},
            "message_start",
        ),
        _data(
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            "content_block_start",
        ),
        *(
            _data(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": d}},
                "content_block_delta",
            )
            for d in deltas
        ),
        _data({"type": "content_block_stop", "index": 0}, "content_block_stop"),
        _data(
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
            "message_delta",
        ),
    ]
    out = await _pass(_guard(), events)
    assert "".join(o["delta"].get("text", "") for o in _objects(out) if "delta" in o) == NUMBER.sub(
        "<N>", TEXT
    )
    assert [e.split(b"\n")[0] for e in out.split(b"\n\n") if e] == [e.split(b"\n")[0] for e in events]


async def test_the_responses_apis_events_tell_the_text_again_and_it_is_redacted_there_too() -> None:
    def text(kind: str, **more: Any) -> bytes:
        return _data(
            {"type": f"response.{kind}", "output_index": 0, "content_index": 0, **more}, f"response.{kind}"
        )

    part = {"type": "output_text", "text": TEXT, "annotations": []}
    item = {"type": "message", "role": "assistant", "content": [part]}
    whole = {"id": "r", "instructions": "give 555-0000", "output": [item]}
    events = [
        text("created", response={**whole, "output": []}),
        *(text("output_text.delta", delta=TEXT[at : at + 5]) for at in range(0, len(TEXT), 5)),
        text("output_text.done", text=TEXT),
        text("content_part.done", part=part),
        text("output_item.done", item=item),
        text("completed", response=whole),
    ]
    out = _objects(await _pass(_guard(), events))
    clean = NUMBER.sub("<N>", TEXT)
    assert "".join(o["delta"] for o in out if o["type"].endswith(".delta")) == clean
    assert out[-4]["text"] == out[-3]["part"]["text"] == out[-2]["item"]["content"][0]["text"] == clean
    assert out[-1]["response"] == {**whole, "output": [{**item, "content": [{**part, "text": clean}]}]}


async def test_comments_and_foreign_events_pass_in_their_place() -> None:
    events = [b": ping\n\n", *_chat("hi", 1)[:2], b"data: not json\n\n", *_chat("hi", 1)[2:]]
    assert await _pass(_guard(), events) == b"".join(events)
