"""Texts are found in every protocol's bodies, with who says them, and put back with all else as it came."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from foundry.codecs.base import Answer, Call
from foundry.codecs.fields import split
from foundry.errors import InvalidParameter, MalformedBody
from foundry.gateway.guardrails import texts


def _call(body: bytes | dict[str, Any]) -> Call:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(model="m", stream=False, fields=split(raw))


def _said(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.role, one.text) for one in texts.of_call(_call(body))]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(
            {
                "messages": [
                    {"role": "system", "content": "be kind"},
                    {"role": "user", "content": [{"type": "text", "text": "hello"}, IMAGE]},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "c1",
                                "type": "function",
                                "function": {"name": "f", "arguments": '{"a":1}'},
                            }
                        ],
                    },
                    {"role": "tool", "tool_call_id": "c1", "content": "42"},
                ],
                "tools": [
                    {"type": "function", "function": {"name": "f", "description": "does f", "parameters": {}}}
                ],
                "temperature": 1,
            },
            [
                ("system", "be kind"),
                ("user", "hello"),
                ("name", "f"),
                ("tool_call", '{"a":1}'),
                ("tool", "42"),
                ("tool_definition", "does f"),
            ],
            id="chat",
        ),
        pytest.param(
            {"prompt": ["a", "b"], "suffix": "c"},
            [("user", "a"), ("user", "b"), ("user", "c")],
            id="completions",
        ),
        pytest.param(
            {
                "instructions": "be brief",
                "input": [
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "output": "42"},
                ],
            },
            [("user", "hi"), ("name", "f"), ("tool_call", "{}"), ("tool", "42"), ("system", "be brief")],
            id="responses",
        ),
        pytest.param(
            {
                "system": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
                "messages": [
                    {
                        "role": "assistant",
                        "content": [
                            {
                                "type": "tool_use",
                                "id": "t",
                                "name": "f",
                                "input": {"url": "http://x", "n": [1, "y"]},
                            }
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t",
                                "content": [{"type": "text", "text": "42"}],
                            },
                            {
                                "type": "document",
                                "source": {"type": "text", "media_type": "text/plain", "data": "a file"},
                            },
                        ],
                    },
                ],
            },
            [
                ("name", "f"),
                ("tool_call", "http://x"),
                ("tool_call", "y"),
                ("tool", "42"),
                ("user", "a file"),
                ("system", "be kind"),
            ],
            id="messages",
        ),
        pytest.param(
            {"messages": [], "prediction": {"type": "content", "content": "p"}, "chat_template": "t"},
            [("user", "p"), ("system", "t")],
            id="members that some servers put into the prompt",
        ),
        pytest.param({"input": "one"}, [("user", "one")], id="embeddings"),
        pytest.param(
            {"query": "q", "documents": ["d", {"text": "e"}]},
            [("user", "q"), ("user", "d"), ("user", "e")],
            id="rerank",
        ),
        pytest.param({"text_1": "a", "text_2": ["b"]}, [("user", "a"), ("user", "b")], id="score"),
        pytest.param(
            {"input": "say it", "voice": "joe", "instructions": "softly"},
            [("user", "say it"), ("system", "softly")],
            id="speech",
        ),
    ],
)
def test_every_text_is_found_with_who_says_it(body: dict[str, Any], said: list[tuple[str, str]]) -> None:
    assert _said(body) == said


def test_a_changed_text_leaves_every_other_value_byte_for_byte() -> None:
    body = (
        b'{"model":"m","temperature":1.000,"messages":[{"role":"user","content":"a \\u00e9 b"},'
        b'{"role":"user","content":[{"type":"text","text":"secret"},{"type":"image_url","image_url":{"url":"x","n":1.50}}],'
        b'"big":12345678901234567890123}]}'
    )
    call = _call(body)
    place = next(one.place for one in texts.of_call(call) if one.text == "secret")
    assert place == ("messages", 1, "content", 0, "text")
    written = msgspec.json.encode(texts.into_call(call, {place: 'no "quotes"'}).fields)
    assert written == body.replace(b'"secret"', b'"no \\"quotes\\""')


def test_token_ids_are_refused_because_no_guard_can_read_them() -> None:
    for prompt in ([1, 2], [[1, 2]]):
        with pytest.raises(InvalidParameter, match="token ids"):
            texts.of_call(_call({"prompt": prompt}))


@pytest.mark.parametrize("depth", [400, 1000, 5000])
def test_a_body_of_any_depth_is_read_or_the_callers_fault(depth: int) -> None:
    body = b'{"messages":' + b"[" * depth + b'"x"' + b"]" * depth + b"}"
    if depth < 1000:
        assert [one.text for one in texts.of_call(_call(body))] == ["x"]
        return
    with pytest.raises(MalformedBody, match="nested too deeply"):
        texts.of_call(_call(body))


def test_a_whole_answer_is_read_and_written_and_loses_its_log_probabilities() -> None:
    body = (
        b'{"choices":[{"index":0,"message":{"role":"assistant","content":"call 555","reasoning_content":"hm"},'
        b'"logprobs":{"content":[{"token":"555"}]}}],"usage":{"prompt_tokens":1}}'
    )
    answer = Answer(body, None)
    said = texts.of_answer(answer)
    assert [(one.role, one.text) for one in said] == [("assistant", "call 555"), ("reasoning", "hm")]
    written = texts.into_answer(answer, {said[0].place: "call <N>"}).body
    assert json.loads(written)["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "call <N>", "reasoning_content": "hm"},
        "logprobs": None,
    }
    assert b"555" not in written
    assert b'"usage":{"prompt_tokens":1}' in written


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b'{"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"}]}],'
            b'"text":{"format":{"type":"text"},"verbosity":"low"}}',
            ["a"],
        ),
        (b'{"content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"a"}]}', ["t", "a"]),
        (b'{"object":"list","data":[{"embedding":[1,2]}]}', []),
        (b'{"text":"spoken","segments":[{"id":0,"text":"spoken","tokens":[1]}]}', ["spoken", "spoken"]),
    ],
)  # fmt: skip
def test_what_a_model_said_in_other_protocols(answer: bytes, said: list[str]) -> None:
    assert [one.text for one in texts.of_answer(Answer(answer, None))] == said


def test_sound_has_no_text_and_plain_text_is_one() -> None:
    assert texts.of_answer(Answer(b"\xff\xfb", None, content_type="audio/mpeg")) == []
    plain = Answer(b"hello 555", None, content_type="text/plain")
    assert [one.text for one in texts.of_answer(plain)] == ["hello 555"]
    assert texts.into_answer(plain, {(): "hello <N>"}).body == b"hello <N>"


def test_overlapping_spans_become_one_with_the_longest_ones_label() -> None:
    assert texts.redacted("0123456789", [(2, 4, "a"), (3, 8, "b"), (9, 10, "c")]) == "01<b>8<c>"
