"""Random answers, streams and conversations through both sides of a dialect come back as they were."""

from __future__ import annotations

import itertools
import json
from typing import Any  # Any: JSON of tests

from hypothesis import given, settings
from hypothesis import strategies as st

from foundry.codecs import anthropic_answer, anthropic_target_answer, chat_answer, chat_target_answer
from foundry.codecs.anthropic_dialect import ANTHROPIC, MESSAGES_CALLER
from foundry.codecs.base import Call
from foundry.codecs.chat_dialect import CHAT_CALLER, OPENAI_CHAT
from foundry.codecs.fields import split
from foundry.codecs.responses_object import write_answer as write_response
from foundry.codecs.responses_stream import ResponseWriter
from foundry.codecs.translate import StreamReader, StreamWriter
from foundry.types.chat import (
    ChatAnswer,
    ChatEvent,
    ChatRequest,
    Choice,
    Counted,
    Ended,
    Finished,
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)
from foundry.types.usage import UsageCounts
from tests.foundry.codecs import wires

CALL = Call(model="public", stream=True, fields={}, wants_usage=True)
words = st.text(min_size=1, max_size=40)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,12}", fullmatch=True)
objects = st.dictionaries(
    names, st.one_of(words, st.integers(-(2**40), 2**40), st.booleans()), max_size=3
).map(json.dumps)
calls = st.builds(ToolCall, st.uuids().map(lambda made: f"call_{made.hex}"), names, objects)
tokens = st.integers(0, 100_000)
small = settings(max_examples=60, deadline=None)


@st.composite
def counts(draw: st.DrawFn) -> UsageCounts:
    cached, written, fresh, out = draw(tokens), draw(tokens), draw(tokens), draw(tokens)
    thought = draw(st.integers(0, out))
    return UsageCounts(cached + written + fresh, cached, out, thought, cache_write_tokens=written)


@st.composite
def answers(draw: st.DrawFn, *, signed: bool) -> ChatAnswer:
    parts: list[Part] = []
    if draw(st.booleans()):
        parts.append(Reasoning(draw(words), draw(words) if signed else None))
    if draw(st.booleans()):
        parts.append(Text(draw(words)))
    called = draw(st.lists(calls, max_size=3))
    reason = "tool_calls" if called else draw(st.sampled_from(["stop", "length"]))
    choice = Choice(0, (*parts, *called), reason)  # type: ignore[arg-type]  # drawn from literals
    return ChatAnswer(id="msg_1" if signed else "chatcmpl-1", choices=(choice,), counts=draw(counts()))


@small
@given(answers(signed=False))
def test_a_chat_answer_comes_back(answer: ChatAnswer) -> None:
    back = chat_target_answer.read_answer(chat_answer.write_answer(answer, CALL))
    assert back.choices == answer.choices
    assert back.counts == answer.counts


@small
@given(answers(signed=True))
def test_a_message_comes_back(answer: ChatAnswer) -> None:
    back = anthropic_target_answer.read_answer(anthropic_answer.write_answer(answer, CALL))
    assert back.counts == answer.counts
    assert _readable(back.choices[0].parts) == _readable(answer.choices[0].parts)
    assert back.choices[0].finish_reason == answer.choices[0].finish_reason


def _readable(parts: tuple[Part, ...]) -> list[object]:
    """Arguments as values: their spelling may change."""
    return [
        (part.id, part.name, json.loads(part.arguments)) if isinstance(part, ToolCall) else part
        for part in parts
    ]


@st.composite
def streams(draw: st.DrawFn) -> list[ChatEvent]:
    events: list[ChatEvent] = [Started("msg_1", UsageCounts(input_tokens=3))]
    events += [ReasoningDelta(said) for said in draw(st.lists(words, max_size=3))]
    if len(events) > 1:
        events.append(ReasoningDelta(signature=draw(words)))
    events += [TextDelta(said) for said in draw(st.lists(words, max_size=4))]
    called = draw(st.lists(calls, max_size=3))
    for number, call in enumerate(called):
        cut = draw(st.integers(0, len(call.arguments)))
        events.append(ToolCallDelta(number, "", call.id, call.name))
        events += [
            ToolCallDelta(number, piece) for piece in (call.arguments[:cut], call.arguments[cut:]) if piece
        ]
    told = draw(counts())
    events += [Finished("tool_calls" if called else "stop"), Counted(told), Ended()]
    return events


def summary(events: list[ChatEvent]) -> dict[str, Any]:
    """What a stream says, whatever its pieces."""
    said: dict[str, Any] = {
        "text": "",
        "thought": "",
        "signature": None,
        "calls": {},
        "counts": None,
        "ended": False,
    }
    for event in events:
        match event:
            case TextDelta():
                said["text"] += event.text
            case ReasoningDelta():
                said["thought"] += event.text
                said["signature"] = event.signature or said["signature"]
            case ToolCallDelta():
                call = said["calls"].setdefault(event.call, [event.id, event.name, ""])
                call[2] += event.arguments
            case Finished():
                said["reason"] = event.reason
            case Counted():
                said["counts"] = event.counts
            case Ended():
                said["ended"] = True
            case _:
                pass
    return said


def through(writer: StreamWriter, reader: StreamReader, events: list[ChatEvent], size: int) -> dict[str, Any]:
    sent = b"".join(writer.write(event) for event in events) + writer.tail()
    read: list[ChatEvent] = []
    for start in range(0, len(sent), size):
        read += reader.feed(sent[start : start + size])
    return summary([*read, *reader.close()])


@small
@given(streams(), st.integers(1, 60))
def test_a_chat_stream_comes_back(events: list[ChatEvent], size: int) -> None:
    back = through(CHAT_CALLER.writer(CALL), OPENAI_CHAT.reader(), events, size)
    expected = summary(events)
    assert {**back, "signature": expected["signature"]} == expected


@small
@given(streams(), st.integers(1, 60))
def test_a_message_stream_comes_back(events: list[ChatEvent], size: int) -> None:
    assert through(MESSAGES_CALLER.writer(CALL), ANTHROPIC.reader(), events, size) == summary(events)


@small
@given(streams())
def test_a_streamed_response_ends_with_what_its_events_said(events: list[ChatEvent]) -> None:
    writer = ResponseWriter(CALL)
    seen = wires.events(b"".join(writer.write(event) for event in events) + writer.tail())
    assert [event["sequence_number"] for event in seen] == list(range(len(seen)))
    items: dict[int, dict[str, Any]] = {}
    deltas: dict[int, str] = {}
    for event in seen:
        if "delta" in event:
            deltas[event["output_index"]] = deltas.get(event["output_index"], "") + event["delta"]
        if event["type"] == "response.output_item.done":
            items[event["output_index"]] = event["item"]
    final = seen[-1]["response"]
    assert final["output"] == [items[index] for index in sorted(items)]
    for index, item in items.items():
        whole = item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"]
        assert whole == deltas.get(index, "")
    assert final["usage"]["output_tokens"] == summary(events)["counts"].output_tokens


@small
@given(answers(signed=True))
def test_a_whole_response_says_what_the_answer_said(answer: ChatAnswer) -> None:
    output = json.loads(write_response(answer, CALL))["output"]
    expected = answer.choices[0].parts
    assert len(output) == len(expected)
    for item, part in zip(output, expected, strict=True):
        match part:
            case ToolCall():
                assert (item["call_id"], item["name"], item["arguments"]) == (
                    part.id,
                    part.name,
                    part.arguments,
                )
            case Text() | Reasoning():
                assert item["content"][0]["text"] == part.text
            case _:
                raise AssertionError(part)


turns = st.lists(
    st.one_of(
        words.map(lambda said: Message("user", (Text(said),))),
        st.tuples(words, st.lists(calls, max_size=2)).map(lambda made: Message("assistant", (Text(made[0]), *made[1]))),
        st.tuples(names, words).map(lambda made: Message("tool", (ToolResult(made[0], (Text(made[1]),)),))),
    ),
    max_size=5,
).map(lambda made: (Message("system", (Text("Be brief"),)), Message("user", (Text("Hi"),)), *made))  # fmt: skip


def reread(body: bytes) -> Call:
    return Call(model="m", stream=False, fields=split(body))


@small
@given(turns)
def test_a_conversation_survives_chat(messages: tuple[Message, ...]) -> None:
    request = ChatRequest(messages=messages, temperature=0.5, max_output_tokens=9, stop=("a", "b"), seed=4)
    written = OPENAI_CHAT.write_request(request, wires.VENDOR)
    assert CHAT_CALLER.read_request(reread(written.body)) == request


@small
@given(turns)
def test_a_conversation_survives_anthropic(messages: tuple[Message, ...]) -> None:
    request = ChatRequest(messages=messages, temperature=0.5, max_output_tokens=9, stop=("a", "b"), top_k=4)
    written = ANTHROPIC.write_request(request, wires.CLAUDE)
    back = MESSAGES_CALLER.read_request(reread(written.body))
    said = [_readable((part,)) for message in back.messages for part in message.parts]
    assert sorted(map(repr, said)) == sorted(
        repr(_readable((part,))) for message in messages for part in message.parts
    )
    assert (back.temperature, back.max_output_tokens, back.stop, back.top_k) == (0.5, 9, ("a", "b"), 4)
    roles = [turn["role"] for turn in json.loads(written.body)["messages"]]
    assert all(first != second for first, second in itertools.pairwise(roles))
