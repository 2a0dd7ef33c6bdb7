"""Every leg of conversations, fed streams cut at every byte, cut off at every byte, and broken ones."""

from __future__ import annotations

import json
from typing import Any  # Any: JSON of tests

import pytest

from foundry.codecs.anthropic_codec import COUNT_TOKENS, MESSAGES
from foundry.codecs.base import Call, Codec, Meter, TargetFacts
from foundry.codecs.chat_legs import CHAT_LEGS
from foundry.codecs.openai import CHAT
from foundry.codecs.responses_codec import RESPONSES
from foundry.errors import ProtocolNotServed, UpstreamBroke, UpstreamUnreachable
from foundry.types.usage import UsageCounts
from tests.foundry.codecs import wires

BY_NAME: dict[str, Codec] = {codec.name: codec for codec in (CHAT, MESSAGES, RESPONSES, COUNT_TOKENS)}
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "x"}], "stream_options": {"include_usage": True}},
    "messages": {"max_tokens": 64, "messages": [{"role": "user", "content": "x"}]},
    "responses": {"input": "x"},
    "count_tokens": {"messages": [{"role": "user", "content": "x"}]},
}
RESPONSES_STREAM = wires.named(
    {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "status": "in_progress", "model": "gpt"}},
    {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hé", "item_id": "m", "output_index": 0},
    {"type": "response.output_text.delta", "sequence_number": 2, "delta": "llo", "item_id": "m", "output_index": 0},
    {"type": "response.completed", "sequence_number": 3, "response": {
        "id": "resp_1", "status": "completed", "model": "gpt", "store": False, "output": [],
        "usage": {"input_tokens": 12, "input_tokens_details": {"cached_tokens": 5}, "output_tokens": 9,
                  "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 21}}},
)  # fmt: skip
STREAMS = {
    "openai": (wires.OPENAI_STREAM, UsageCounts(12, 5, 9, 2)),
    "anthropic": (wires.ANTHROPIC_STREAM, UsageCounts(12, 4, 9, 2, cache_write_tokens=3)),
    "openai-responses": (RESPONSES_STREAM, UsageCounts(12, 5, 9, 2)),
}
STREAMING = [pair for pair in CHAT_LEGS if pair[0] != "count_tokens" and pair[1] in STREAMS]
"""Gemini's and Bedrock's streams have tests of their own."""
TARGETS = {"openai": wires.ENGINE, "anthropic": wires.CLAUDE, "openai-responses": wires.VENDOR}


def call_of(protocol: str, **more: Any) -> Call:
    body = {"model": "public", "stream": True, **BODIES[protocol], **more}
    return BY_NAME[protocol].parse(json.dumps(body).encode(), "application/json")


def steady(out: bytes) -> list[dict[str, Any]]:
    """Events without the clock's members."""
    text = json.dumps(wires.events(out))
    return json.loads(
        text,
        object_hook=lambda held: {
            k: v for k, v in held.items() if k not in ("created", "created_at", "completed_at")
        },
    )


@pytest.mark.parametrize(("protocol", "wire"), STREAMING)
def test_a_stream_cut_anywhere_reads_the_same(protocol: str, wire: str) -> None:
    leg, call = CHAT_LEGS[protocol, wire], call_of(protocol)
    stream, counts = STREAMS[wire]
    expected = steady(wires.passed(leg.meter(call), stream, len(stream)))
    assert expected
    for meter, out in wires.in_two(lambda: leg.meter(call), stream):
        assert meter.started
        assert meter.ended
        assert meter.error is None
        assert meter.counts() == counts
        assert steady(out) == expected
    assert steady(wires.passed(leg.meter(call), stream.replace(b"\n", b"\r\n"), 5)) == expected


@pytest.mark.parametrize(("protocol", "wire"), STREAMING)
def test_a_stream_that_breaks_off_anywhere_never_ends_and_never_counts_too_much(
    protocol: str, wire: str
) -> None:
    leg, call = CHAT_LEGS[protocol, wire], call_of(protocol)
    stream, final = STREAMS[wire]
    # the last event of a stream may lack its blank line, and OpenAI's `[DONE]` says nothing that matters
    for at in range(stream.rstrip(b"\n").rfind(b"\n")):
        meter = leg.meter(call)
        meter.feed(stream[:at])
        assert not meter.ended
        counts = meter.counts()
        if counts is not None:
            assert counts.input_tokens <= final.input_tokens
            assert wire != "openai" or counts.output_tokens <= final.output_tokens


def test_output_of_a_cut_anthropic_stream_is_counted_by_us() -> None:
    for protocol in ("chat", "messages", "responses"):
        meter = CHAT_LEGS[protocol, "anthropic"].meter(call_of(protocol))
        meter.feed(wires.ANTHROPIC_STREAM[: wires.ANTHROPIC_STREAM.index(b"event: message_delta")])
        counts = meter.counts()
        assert counts is not None
        assert counts.input_tokens == 12
        assert counts.cached_input_tokens == 4
        assert 5 <= counts.output_tokens <= 12


@pytest.mark.parametrize(("protocol", "wire"), STREAMING)
def test_an_error_inside_a_stream_is_told(protocol: str, wire: str) -> None:
    broken = {
        "openai": b'data: {"error": {"message": "out of memory", "code": 500}}\n\n',
        "anthropic": wires.named(
            {"type": "error", "error": {"type": "overloaded_error", "message": "out of memory"}}
        ),
        "openai-responses": wires.named(
            {
                "type": "response.failed",
                "response": {"status": "failed", "error": {"message": "out of memory"}},
            }
        ),
    }[wire]
    stream, _ = STREAMS[wire]
    meter = CHAT_LEGS[protocol, wire].meter(call_of(protocol))
    meter.feed(stream[:400])
    meter.feed(stream[400 : stream.index(b"\n\n", 400) + 2] + broken)
    assert meter.error == "out of memory"
    assert not meter.ended


@pytest.mark.parametrize(("protocol", "wire"), STREAMING)
@pytest.mark.parametrize(
    "junk",
    [b"data: {\n\n", b"data: \xff\n\n", b"event: x\ndata: nonsense\n\n", b"data: " + b"[" * 5000 + b"\n\n"],
)
def test_an_event_that_cannot_be_read_breaks_the_stream(protocol: str, wire: str, junk: bytes) -> None:
    meter = CHAT_LEGS[protocol, wire].meter(call_of(protocol))
    with pytest.raises(UpstreamBroke):
        meter.feed(junk)


@pytest.mark.parametrize(("protocol", "wire"), STREAMING)
@pytest.mark.parametrize("junk", [b"", b"<html>", b"[]", b'{"error": {"message": "no"}}'])
def test_a_whole_answer_that_cannot_be_read_is_the_upstreams_fault(
    protocol: str, wire: str, junk: bytes
) -> None:
    if (wire, junk) == ("openai-responses", b'{"error": {"message": "no"}}'):
        junk = b'{"status": "failed", "error": {"message": "no"}}'
    with pytest.raises(UpstreamBroke):
        CHAT_LEGS[protocol, wire].answer(call_of(protocol), junk, "application/json")


@pytest.mark.parametrize(("protocol", "wire"), STREAMING)
def test_a_failure_after_the_first_byte_has_its_terminal_event(protocol: str, wire: str) -> None:
    meter = CHAT_LEGS[protocol, wire].meter(call_of(protocol))
    meter.feed(STREAMS[wire][0][:700])
    failure = meter.failure(UpstreamUnreachable("gone"), "req_1")
    if failure is None:  # bytes pass through: the codec's own error event ends them
        assert (protocol, wire) == ("messages", "anthropic")
        return
    told = wires.events(failure)[-1]
    if protocol == "responses":
        assert told["type"] == "response.failed"
        assert told["response"]["status"] == "failed"
        assert "gone" in told["response"]["error"]["message"]
    else:
        assert told["error"]["message"] == "gone"


@pytest.mark.parametrize("wire", ["openai", "anthropic", "openai-responses"])
def test_words_of_refusals(wire: str) -> None:
    leg = next(leg for (_, name), leg in CHAT_LEGS.items() if name == wire)
    assert leg.told(b'{"type":"error","error":{"type":"x","message":"too long"}}').message == "too long"
    assert leg.told(b"<html>no</html>").message == "<html>no</html>"


def test_tokens_are_counted_where_the_answer_would_be_made() -> None:
    over_claude, over_engine = CHAT_LEGS["count_tokens", "anthropic"], CHAT_LEGS["count_tokens", "openai"]
    call = call_of("count_tokens", system="s", thinking={"type": "disabled"})
    request = over_claude.request(call, wires.CLAUDE)
    assert request.path == "/v1/messages/count_tokens"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert json.loads(request.body)["model"] == "claude-x"
    assert over_claude.answer(call, b'{"input_tokens": 3}', "application/json").body == b'{"input_tokens": 3}'
    request = over_engine.request(call, wires.ENGINE)
    assert request.path == "/tokenize"
    assert json.loads(request.body)["chat_template_kwargs"] == {
        "reasoning_effort": "none",
        "enable_thinking": False,
    }
    answer = over_engine.answer(call, b'{"count": 7, "tokens": []}', "application/json")
    assert answer.body == b'{"input_tokens":7}'
    assert answer.counts == UsageCounts()
    with pytest.raises(ProtocolNotServed, match="openai/gpt"):
        over_engine.request(call, wires.VENDOR)


def test_a_target_without_usage_is_estimated() -> None:
    silent = wires.sse(
        wires.chunk({"content": "12345678"}), wires.chunk({"content": "9"}), wires.chunk({}, "stop")
    )
    meter: Meter = CHAT_LEGS["messages", "openai"].meter(call_of("messages"))
    wires.passed(meter, silent, 9)
    assert meter.counts() is None
    assert meter.estimated_output_tokens() == 3
    whole = json.loads(wires.OPENAI_WHOLE)
    del whole["usage"]
    answer = CHAT_LEGS["messages", "openai"].answer(
        call_of("messages"), json.dumps(whole).encode(), "application/json"
    )
    assert answer.counts is None
    assert answer.estimated_output_tokens == -(-len("Let me look.Hmweather" + '{"city": "Oslo"}') // 4)


def test_responses_through_keep_the_stores_words_and_the_public_names() -> None:
    leg = CHAT_LEGS["responses", "openai-responses"]
    call = call_of("responses", store=True, previous_response_id="resp_0", background=False, include=["x"])
    target = TargetFacts(target_id="openai/gpt", model="gpt")
    sent = wires.sent(leg, call, target)
    assert sent["store"] is False
    assert sent["model"] == "gpt"
    assert "previous_response_id" not in sent
    assert sent["include"] == ["x", "reasoning.encrypted_content"]
    first, *_, last = wires.events(wires.passed(leg.meter(call), RESPONSES_STREAM, 11))
    for event in (first, last):
        assert event["response"]["model"] == "public"
        assert event["response"]["previous_response_id"] == "resp_0"
        assert event["response"]["store"] is True
