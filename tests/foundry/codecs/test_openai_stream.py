"""The stream meter, fed in every way a network can cut a stream."""

from __future__ import annotations

import pytest

from foundry.codecs.openai_stream import SseMeter
from foundry.types.usage import UsageCounts

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}],"usage":{"prompt_tokens":3,"completion_tokens":0}}\n\n'
FIRST = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
SECOND = b'data: {"choices":[{"delta":{"content":"\\"usage\\":"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
FINAL = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = ROLE + b": keep-alive\n\n" + FIRST + SECOND + FINAL + DONE
CLEAN = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n: keep-alive\n\n'
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choices":[{"delta":{"content":"\\"usage\\":"}}]}\n\n'
)


def _meter(*, wants_usage: bool = False, wants_running_usage: bool = False) -> SseMeter:
    return SseMeter(wants_usage=wants_usage, wants_running_usage=wants_running_usage)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_however_it_is_cut_the_caller_gets_the_same_and_the_counts_are_right(
    size: int, newline: bytes
) -> None:
    meter, stream = _meter(), STREAM.replace(b"\n", newline)
    out = b"".join(meter.feed(stream[i : i + size]) for i in range(0, len(stream), size))
    assert out == CLEAN
    assert meter.started
    assert meter.ended
    assert meter.counts() == UsageCounts(input_tokens=3, output_tokens=2)
    assert meter.estimated_output_tokens() == 2


def test_a_caller_who_asked_for_usage_gets_the_final_chunk_and_only_that() -> None:
    assert _meter(wants_usage=True).feed(STREAM) == CLEAN + FINAL


def test_a_caller_who_asked_for_running_usage_gets_every_byte() -> None:
    assert _meter(wants_usage=True, wants_running_usage=True).feed(STREAM) == STREAM.removesuffix(DONE)


def test_usage_in_the_last_content_chunk_is_counted_and_the_content_goes_on() -> None:
    meter = _meter()
    out = meter.feed(FIRST + DONE)
    assert out == b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    assert meter.counts() == UsageCounts(input_tokens=3, output_tokens=1)


def test_null_usage_is_not_a_count() -> None:
    meter = _meter()
    meter.feed(b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n')
    assert meter.counts() is None
    assert meter.estimated_output_tokens() == 1


def test_the_role_chunk_is_not_the_first_token() -> None:
    meter = _meter()
    meter.feed(ROLE)
    assert not meter.started
    meter.feed(FIRST)
    assert meter.started


@pytest.mark.parametrize(
    "delta",
    [
        b'{"tool_calls":[{"index":0}]}',
        b'{"reasoning_content":"hm"}',
        b'{"reasoning":"hm"}',
        b'{"refusal":"no"}',
        b'{"content":["odd"]}',
    ],
)
def test_whatever_a_model_says_counts_as_its_first_token(delta: bytes) -> None:
    meter = _meter()
    meter.feed(b'data: {"choices":[{"delta":' + delta + b"}]}\n\n")
    assert meter.started


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (b'data: {"error":{"message":"out of memory","code":500}}\n\n', "out of memory"),
        (b'data: {"error":"plain"}\n\n', "plain"),
        (b'data: {"error":42}\n\n', "42"),
    ],
)
def test_an_error_inside_the_stream_is_seen_before_and_after_content(event: bytes, words: str) -> None:
    for before in (b"", ROLE + FIRST):
        meter = _meter()
        meter.feed(before + event + DONE)
        assert meter.error == words


def test_a_chunk_that_is_not_json_passes_untouched() -> None:
    assert _meter().feed(b"data: hello\n\nevent: x\ndata: y\n\n") == b"data: hello\n\nevent: x\ndata: y\n\n"
