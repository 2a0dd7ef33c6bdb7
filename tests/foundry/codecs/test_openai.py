"""OpenAI requests: what is read, what is rewritten, what is refused."""

from __future__ import annotations

import json

import pytest

from foundry.codecs import CHAT, CODECS, EMBEDDINGS, LEGS
from foundry.codecs.base import JSON, Call, TargetFacts
from foundry.errors import InvalidParameter, MalformedBody
from foundry.types.usage import UsageCounts

LEG = LEGS["chat", "openai"]


def parse(body: bytes) -> Call:
    return CHAT.parse(body, JSON)


def sent_to(call: Call, model: str, *, running_usage: bool = False) -> bytes:
    request = LEG.request(call, TargetFacts("t/m", model, running_usage=running_usage))
    assert request.path == "/v1/chat/completions"
    return request.body


def test_every_codec_is_found_by_its_path() -> None:
    assert {path: codec.path for path, codec in CODECS.items()} == {path: path for path in CODECS}


def test_what_only_passes_through_keeps_its_bytes() -> None:
    messages = b'[ {"role":"user",   "content":"\\u00e9 \xc3\xa9"} ]'
    body = b'{"model":"m","messages":' + messages + b',"temperature":0.10,"seed":1e3}'
    sent = sent_to(parse(body), "m", running_usage=True)
    assert messages in sent
    assert b"0.10" in sent
    assert b"1e3" in sent


def test_the_model_is_renamed_and_usage_is_asked_for() -> None:
    call = parse(b'{"model":"public","messages":[],"stream":true,"stream_options":{"x":1}}')
    sent = json.loads(sent_to(call, 'up"stream', running_usage=True))
    assert sent["model"] == 'up"stream'
    assert sent["stream_options"] == {"x": 1, "include_usage": True, "continuous_usage_stats": True}
    vendor = json.loads(sent_to(call, "public"))
    assert "continuous_usage_stats" not in vendor["stream_options"]


def test_null_stream_options_are_no_options() -> None:
    call = parse(b'{"model":"m","messages":[],"stream":true,"stream_options":null}')
    assert json.loads(sent_to(call, "m"))["stream_options"] == {"include_usage": True}


def test_an_embedding_request_cannot_stream() -> None:
    assert not EMBEDDINGS.parse(b'{"model":"m","input":"x","stream":true}', JSON).stream


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b'{"model":',
        b'{"a":1}x',
        b"\xff\xfe{}",
        b'{"a":NaN}',
        b"null",
        b'{"a":' + b"[" * 200_000,
    ],
)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse(body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages":[]}', "model"),
        (b'{"model":"","messages":[]}', "model"),
        (b'{"model":3,"messages":[]}', "model"),
        (b'{"model":null,"messages":[]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":[],"stream":"yes"}', "stream"),
        (b'{"model":"m","messages":[],"stream":true,"stream_options":7}', "stream_options"),
        (
            b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":"x"}}',
            "stream_options",
        ),
    ],
)
def test_a_wrong_parameter_is_named(body: bytes, param: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse(body)
    assert caught.value.param == param


def test_counts_of_a_whole_answer() -> None:
    body = (
        b'{"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":2},'
        b'"completion_tokens_details":{"reasoning_tokens":1}}}'
    )
    call = parse(b'{"model":"m","messages":[]}')
    assert LEG.answer(call, body, JSON).counts == UsageCounts(
        input_tokens=9, cached_input_tokens=2, output_tokens=5, reasoning_tokens=1
    )
    for silent in (b'{"usage":null}', b"not json", b'{"choices":' + b"[" * 100_000):
        assert LEG.answer(call, silent, JSON).counts is None
    said = LEG.answer(call, b'{"choices":[{"message":{"content":"12345"}},{"text":"1234"}]}', JSON)
    assert said.estimated_output_tokens == 3


@pytest.mark.parametrize(
    ("members", "bound"),
    [
        ("", None),
        (',"max_tokens":7', 7),
        (',"max_tokens":7,"max_completion_tokens":5', 5),
        (',"max_tokens":7,"n":3', 21),
    ],
)
def test_the_callers_own_bound_covers_all_choices(members: str, bound: int | None) -> None:
    assert parse(b'{"model":"m","messages":[]' + members.encode() + b"}").max_output_tokens == bound


def test_the_end_user_is_read() -> None:
    assert parse(b'{"model":"m","messages":[],"user":"u1"}').user == "u1"
    assert parse(b'{"model":"m","messages":[],"user":"u1","safety_identifier":"s"}').user == "s"


def test_an_error_answer_tells_its_words() -> None:
    assert LEG.told(b'{"error":{"message":"no","param":"n"}}').param == "n"
    assert LEG.told(b"<html>bad gateway</html>").message == "<html>bad gateway</html>"
