"""Answers as streams and back, for every protocol that streams."""

from __future__ import annotations

import json
from typing import Any  # Any: JSON of tests

import pytest

from foundry.codecs import CODECS
from foundry.codecs.base import Call
from foundry.codecs.chat_legs import CHAT_LEGS
from foundry.codecs.replay import REPLAYS
from foundry.types.usage import UsageCounts
from tests.foundry.codecs import wires
from tests.foundry.codecs.test_legs import call_of

ASKS = Call(model="public", stream=True, fields={}, wants_usage=True)
SILENT = Call(model="public", stream=True, fields={})
CHAT = json.loads(wires.OPENAI_WHOLE) | {"system_fingerprint": "fp", "service_tier": "default"}
CHAT["choices"].append({
    "index": 1, "finish_reason": "stop", "stop_reason": None,
    "message": {"role": "assistant", "content": "x" * 200, "refusal": None, "annotations": [{"type": "url_citation"}]},
    "logprobs": {"content": [{"token": "x", "logprob": -1.0, "bytes": [120], "top_logprobs": []}]}})  # fmt: skip
COMPLETION = {
    "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "usage": wires.usage(3, 4),
    "choices": [{"index": 0, "text": "é" * 100, "logprobs": None, "finish_reason": "stop"},
                {"index": 1, "text": "ab", "finish_reason": "length",
                 "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0], "top_logprobs": None, "text_offset": [0, 1]}}],
}  # fmt: skip
MESSAGE = json.loads(wires.ANTHROPIC_WHOLE)
MESSAGE["content"].append(
    {"type": "text", "text": "y" * 100, "citations": [{"type": "char_location", "cited_text": "y"}]}
)


def response() -> dict[str, Any]:
    leg = CHAT_LEGS["responses", "anthropic"]
    return json.loads(
        leg.answer(call_of("responses", metadata={"a": "b"}), wires.ANTHROPIC_WHOLE, "application/json").body
    )


WHOLES: dict[str, Any] = {
    "chat": CHAT,
    "completions": COMPLETION,
    "messages": MESSAGE,
    "responses": response(),
}


def told(value: Any) -> Any:
    """Without members that say nothing."""
    if isinstance(value, dict):
        return {name: told(held) for name, held in value.items() if held not in (None, [], "")}
    return [told(held) for held in value] if isinstance(value, list) else value


def test_every_streaming_protocol_has_one() -> None:
    assert set(WHOLES) == set(REPLAYS)
    assert {codec.name for codec in CODECS.values() if codec.name in ("chat", "completions")} <= set(REPLAYS)


@pytest.mark.parametrize("protocol", WHOLES)
def test_an_answer_survives_being_a_stream(protocol: str) -> None:
    replay, whole = REPLAYS[protocol], WHOLES[protocol]
    events = replay.stream(json.dumps(whole).encode(), ASKS)
    assert len(events) > 5
    assert all(event.endswith(b"\n\n") and event.count(b"\n\n") == 1 for event in events)
    back = replay.whole(b"".join(events), None)
    assert back is not None
    assert told(json.loads(back)) == told(whole)


@pytest.mark.parametrize(
    ("protocol", "wire"), [("chat", "anthropic"), ("messages", "openai"), ("responses", "openai")]
)
def test_a_stream_and_a_whole_answer_of_one_target_are_one_answer(protocol: str, wire: str) -> None:
    stream = wires.ANTHROPIC_STREAM if wire == "anthropic" else wires.OPENAI_STREAM
    meter = CHAT_LEGS[protocol, wire].meter(call_of(protocol))
    sent = wires.passed(meter, stream, 50)
    whole = REPLAYS[protocol].whole(sent, meter.counts())
    assert whole is not None
    again = REPLAYS[protocol].whole(b"".join(REPLAYS[protocol].stream(whole, ASKS)), None)
    assert again is not None
    assert told(json.loads(again)) == told(json.loads(whole))
    assert "Let me look." in json.dumps(json.loads(whole))


@pytest.mark.parametrize("protocol", WHOLES)
def test_a_stream_that_is_not_whole_is_none(protocol: str) -> None:
    replay = REPLAYS[protocol]
    events = replay.stream(json.dumps(WHOLES[protocol]).encode(), ASKS)
    assert replay.whole(b"".join(events[:-1]), None) is None
    assert replay.whole(b"", None) is None
    assert replay.whole(events[-1] + b"data: junk\n\n", None) is None
    assert replay.whole(b'event: error\ndata: {"type":"error","error":{"message":"no"}}\n\n', None) is None


def test_usage_that_a_stream_did_not_tell_is_filled_in() -> None:
    counts = UsageCounts(input_tokens=3, output_tokens=4)
    for protocol in ("chat", "completions"):
        replay = REPLAYS[protocol]
        silent = replay.stream(json.dumps(WHOLES[protocol]).encode(), SILENT)
        assert not any(b'"usage"' in event for event in silent)
        whole = replay.whole(b"".join(silent), counts)
        assert whole is not None
        assert json.loads(whole)["usage"]["total_tokens"] == 7


@pytest.mark.parametrize("protocol", WHOLES)
def test_what_is_no_answer_goes_out_as_it_is(protocol: str) -> None:
    assert b"nonsense" in b"".join(REPLAYS[protocol].stream(b"nonsense", ASKS))
