"""OpenAI requests: what is read, what is rewritten, what is refused."""

from __future__ import annotations

import json

import pytest

from foundry.codecs import CHAT, CODECS, EMBEDDINGS
from foundry.errors import InvalidParameter, MalformedBody
from foundry.types.usage import UsageCounts


def test_every_codec_is_found_by_its_path() -> None:
    assert {path: codec.path for path, codec in CODECS.items()} == {path: path for path in CODECS}


def test_what_only_passes_through_keeps_its_bytes() -> None:
    messages = b'[ {"role":"user",   "content":"\\u00e9 \xc3\xa9"} ]'
    body = b'{"model":"m","messages":' + messages + b',"temperature":0.10,"seed":1e3}'
    sent = CHAT.upstream_body(CHAT.parse(body), "m", running_usage=True)
    assert messages in sent
    assert b"0.10" in sent
    assert b"1e3" in sent


def test_the_model_is_renamed_and_usage_is_asked_for() -> None:
    call = CHAT.parse(b'{"model":"public","messages":[],"stream":true,"stream_options":{"x":1}}')
    sent = json.loads(CHAT.upstream_body(call, 'up"stream', running_usage=True))
    assert sent["model"] == 'up"stream'
    assert sent["stream_options"] == {"x": 1, "include_usage": True, "continuous_usage_stats": True}
    vendor = json.loads(CHAT.upstream_body(call, "public", running_usage=False))
    assert "continuous_usage_stats" not in vendor["stream_options"]


def test_null_stream_options_are_no_options() -> None:
    call = CHAT.parse(b'{"model":"m","messages":[],"stream":true,"stream_options":null}')
    assert json.loads(CHAT.upstream_body(call, "m", running_usage=False))["stream_options"] == {
        "include_usage": True
    }


def test_an_embedding_request_cannot_stream() -> None:
    assert not EMBEDDINGS.parse(b'{"model":"m","input":"x","stream":true}').stream


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
        CHAT.parse(body)


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
        CHAT.parse(body)
    assert caught.value.param == param


def test_counts_of_a_whole_answer() -> None:
    body = (
        b'{"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":2},'
        b'"completion_tokens_details":{"reasoning_tokens":1}}}'
    )
    assert CHAT.counts(body) == UsageCounts(
        input_tokens=9, cached_input_tokens=2, output_tokens=5, reasoning_tokens=1
    )
    assert CHAT.counts(b'{"usage":null}') is None
    assert CHAT.counts(b"not json") is None
    assert CHAT.estimated_output_tokens(b'{"choices":[{"message":{"content":"12345"}},{"text":"1234"}]}') == 3
