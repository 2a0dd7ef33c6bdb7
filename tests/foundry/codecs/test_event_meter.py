"""Streams of transcripts: cut at every byte, with foreign line ends, with errors, in vLLM's shape."""

from __future__ import annotations

import json

import pytest

from foundry.codecs.event_meter import EventMeter
from foundry.types.usage import UsageCounts

DELTAS = [{"type": "transcript.text.delta", "delta": word} for word in ("Hel", "lo")]
DONE = {
    "type": "transcript.text.done", "text": "Hello",
    "usage": {"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
              "output_tokens": 3, "total_tokens": 17},
}  # fmt: skip
COUNTS = UsageCounts(input_tokens=14, audio_input_tokens=14, output_tokens=3)


def lines(*events: object, end: str = "\n") -> bytes:
    return "".join(f"data: {json.dumps(event)}{end}{end}" for event in events).encode()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_stream_cut_anywhere_gives_the_same(end: str) -> None:
    whole = (
        b": keep-alive"
        + end.encode() * 2
        + lines(*DELTAS, DONE, end=end)
        + f"data: [DONE]{end}{end}".encode()
    )
    for cut in range(len(whole)):
        meter = EventMeter()
        out = meter.feed(whole[:cut]) + meter.feed(whole[cut:])
        assert out == b": keep-alive\n\n" + lines(*DELTAS)
        assert meter.tail() == lines(DONE)
        assert (meter.started, meter.ended, meter.counts()) == (True, True, COUNTS)


def test_byte_by_byte() -> None:
    meter, whole = EventMeter(), lines(*DELTAS, DONE, end="\r\n")
    assert b"".join(meter.feed(whole[at : at + 1]) for at in range(len(whole))) == lines(*DELTAS)
    assert meter.ended
    assert meter.estimated_output_tokens() == 3


def test_a_last_event_without_its_empty_line_counts() -> None:
    meter = EventMeter()
    meter.feed(lines(DONE).rstrip())
    assert (meter.close(), meter.ended, meter.tail()) == (b"", True, lines(DONE))


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"error": {"message": "out of memory", "code": 500}}, "out of memory"),
        ({"error": "plain"}, "plain"),
        ({"type": "error", "message": "gone"}, "gone"),
        ({"type": "error", "error": {"message": "typed"}}, "typed"),
        ({"error": {"code": 7}}, "without a message"),
        ({"error": [1]}, "[1]"),
    ],
)
def test_an_error_is_kept_for_the_gateway_to_tell(event: object, words: str) -> None:
    meter = EventMeter()
    assert meter.feed(lines(DELTAS[0], event)) == lines(DELTAS[0])
    assert meter.error is not None
    assert words in meter.error
    meter.close()
    assert not meter.ended


def test_what_is_no_json_passes() -> None:
    meter = EventMeter()
    assert meter.feed(b"data: what?\n\nevent: ping\n\n") == b"data: what?\n\nevent: ping\n\n"
    assert not meter.started


def chunk(text: str | None, **more: object) -> dict[str, object]:
    choices = [] if text is None else [{"delta": {"content": text}, "finish_reason": None}]
    return {
        "id": "trsc-1",
        "object": "transcription.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
        **more,
    }


def test_vllms_chunks_become_openais_events() -> None:
    usage = {"prompt_tokens": 150, "completion_tokens": 4, "total_tokens": 154}
    meter = EventMeter()
    out = meter.feed(
        lines(chunk("Hel"), chunk("lo"), chunk(""), chunk(None, usage=usage)) + b"data: [DONE]\n\n"
    )
    assert out == lines(*DELTAS).replace(b": ", b":").replace(b", ", b",").replace(b"data:", b"data: ")
    assert (meter.started, meter.ended) == (True, True)
    done = json.loads(meter.tail().removeprefix(b"data: "))
    assert done["type"] == "transcript.text.done"
    assert done["text"] == "Hello"
    assert done["usage"] == {"type": "tokens", "input_tokens": 150, "output_tokens": 4, "total_tokens": 154}
    assert meter.counts() == UsageCounts(input_tokens=150, output_tokens=4)


def test_running_usage_counts_as_far_as_it_went() -> None:
    meter = EventMeter()
    meter.feed(
        lines(
            chunk("a", usage={"prompt_tokens": 150, "completion_tokens": 1}),
            chunk("b", usage={"prompt_tokens": 150, "completion_tokens": 2}),
        )
    )
    assert not meter.ended
    assert meter.counts() == UsageCounts(input_tokens=150, output_tokens=2)


def test_a_stream_of_nothing_but_its_end() -> None:
    meter = EventMeter()
    meter.feed(b"data: [DONE]\n\n")
    assert meter.ended
    assert json.loads(meter.tail().removeprefix(b"data: "))["text"] == ""
