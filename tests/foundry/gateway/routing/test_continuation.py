"""The text of a broken stream, and the request for its rest, by themselves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from foundry.codecs.base import Call
from foundry.codecs.openai_stream import SseMeter
from foundry.errors import UnsupportedParameter
from foundry.gateway.routing.continuation import Continuation, Spliced, Transcript, may_continue
from foundry.gateway.upstream import Upstream
from foundry.types.usage import UsageCounts
from tests.foundry.gateway.routing.conftest import call, target, vendor

USER = [{"role": "user", "content": "x"}]


def _event(**fields: Any) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


def _text(words: str, **more: Any) -> bytes:
    return _event(
        id="first", created=1, model="m", choices=[{"index": 0, "text": words, "finish_reason": None}], **more
    )


def _streamed(**fields: Any) -> Call:
    return msgspec.structs.replace(call(**fields), stream=True)


def _decoded(sent: Call) -> dict[str, Any]:
    return {name: msgspec.json.decode(raw) for name, raw in sent.fields.items()}


def _upstream() -> Upstream:
    return Upstream(target("a"), engine_token="t")


def test_a_transcript_stays_small_and_loses_nothing() -> None:
    transcript = Transcript()
    for n in range(5000):
        transcript.add(_text(f"{n} "))
    assert transcript.text() == "".join(f"{n} " for n in range(5000))
    assert transcript.head == {"id": "first", "created": 1, "model": "m"}
    assert transcript.plain
    assert not transcript.finished


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 0, "delta": {"tool_calls": [{"index": 0}]}},
        {"index": 0, "delta": {"reasoning_content": "hm"}},
        {"index": 1, "delta": {"content": "x"}},
    ],
)
def test_what_is_not_plain_text_of_one_choice_is_noticed(choice: dict[str, Any]) -> None:
    transcript = Transcript()
    transcript.add(_event(choices=[choice]))
    assert transcript.text() is not None
    assert not transcript.plain


def test_completions_go_on_from_the_prompt_and_what_was_said() -> None:
    transcript = Transcript()
    transcript.add(_text("Paris is \n"))
    rest = Continuation("completions", transcript, UsageCounts(output_tokens=4))
    sent = _decoded(rest.call(_streamed(prompt="Where? ", max_tokens=5), _upstream()))
    assert sent == {"prompt": "Where? Paris is", "max_tokens": 1}
    spliced = Spliced(SseMeter(wants_usage=True, wants_running_usage=False), rest)
    out = spliced.feed(
        _event(id="second", created=2, model="n", choices=[{"index": 0, "text": " "}])
        + _event(id="second", created=2, model="n", choices=[{"index": 0, "text": "\nthere"}])
        + _event(
            id="second", created=2, model="n", choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2}
        )
        + b"data: [DONE]\n\n"
    )
    assert b'"text":"there"' in out, "the white space was said already"
    assert out.count(b"data: ") == 2
    assert b'"id":"first"' in out
    assert b"second" not in out
    assert b'"completion_tokens":6' in out
    assert spliced.ended
    counts = spliced.counts()
    assert counts is not None
    assert counts.output_tokens == 2, "its own alone"


def test_prompts_that_are_not_one_text_are_refused() -> None:
    transcript = Transcript()
    transcript.add(_text("x"))
    rest = Continuation("completions", transcript, UsageCounts())
    with pytest.raises(UnsupportedParameter):
        rest.call(_streamed(prompt=[1, 2]), _upstream())


@pytest.mark.parametrize(("how", "words"), [("message", {}), ("prefix", {"prefix": True})])
def test_vendors_are_told_in_their_own_way(
    how: str, words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    transcript = Transcript()
    transcript.add(_event(choices=[{"index": 0, "delta": {"content": "So "}}]))
    rest = Continuation("chat", transcript, UsageCounts())
    upstream = Upstream(vendor("v", "http://127.0.0.1:9"), engine_token="t")
    with pytest.raises(UnsupportedParameter, match="openai/v"):
        rest.call(_streamed(messages=USER), upstream)
    upstream.facts = msgspec.structs.replace(upstream.facts, options={"prefill": how})
    sent = _decoded(rest.call(_streamed(messages=USER), upstream))
    assert sent == {"messages": [*USER, {"role": "assistant", "content": "So", **words}]}


def test_only_streams_of_text_may_continue() -> None:
    assert may_continue("chat", _streamed(messages=USER))
    assert may_continue("chat", _streamed(messages=USER, n=1, tools=[], tool_choice="auto"))
    assert not may_continue("chat", call(messages=USER))
    assert not may_continue("responses", _streamed(input="x"))
    assert not may_continue("completions", _streamed(prompt="x", echo=True))


def test_a_vendor_goes_on_as_its_row_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-mistral")
    upstream = Upstream(vendor("a", "http://127.0.0.1:9", provider="mistral"), engine_token="t")
    said = Transcript()
    said.add(_text("one two "))
    sent = _decoded(Continuation("chat", said, UsageCounts()).call(_streamed(messages=USER), upstream))
    assert sent["messages"] == [*USER, {"role": "assistant", "content": "one two", "prefix": True}]


def test_usage_beside_the_last_words_is_told_as_the_sum() -> None:
    said = Transcript()
    said.add(_text("one "))
    rest = Continuation("completions", said, UsageCounts(input_tokens=3, output_tokens=1))
    meter = Spliced(SseMeter(wants_usage=True, wants_running_usage=False), rest)
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    out = meter.feed(_text("two", usage=usage) + b"data: [DONE]\n\n")
    *events, done, _ = (out + meter.tail()).split(b"\n\n")
    assert done == b"data: [DONE]"
    told = [msgspec.json.decode(event[5:]) for event in events]
    assert [event.get("usage") for event in told] == [
        None,
        {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    ]
    assert {event["id"] for event in told} == {"first"}
