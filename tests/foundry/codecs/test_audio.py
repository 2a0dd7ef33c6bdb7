"""Transcription, translation and speech: what is asked of targets, what callers get, what it counts as."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundry.codecs import CODECS, LEGS, multipart
from foundry.codecs.base import JSON, Call, TargetFacts
from foundry.errors import (
    InvalidParameter,
    MalformedBody,
    UnsupportedMedia,
    UnsupportedParameter,
    UpstreamBroke,
)
from foundry.types.usage import UsageCounts
from tests.support.forms import CONTENT_TYPE, form, silence

TRANSCRIPTION, TRANSLATION = CODECS["/v1/audio/transcriptions"], CODECS["/v1/audio/translations"]
SPEECH = CODECS["/v1/audio/speech"]
SOUND = ("a.wav", silence(1.5))
SEGMENTS = [
    {"start": 0, "end": 2.5, "text": " One --> two."},
    {"start": 3661.25, "end": 3662.0005, "text": "Three\n\n four."},
]
SRT = "1\n00:00:00,000 --> 00:00:02,500\nOne -> two.\n\n2\n01:01:01,250 --> 01:01:02,000\nThree four.\n\n"


def call_of(*fields: tuple[str, Any], codec: Any = TRANSCRIPTION) -> Call:
    return codec.parse(form(("model", "public"), ("file", SOUND), *fields), CONTENT_TYPE)


def asked(call: Call, name: str = "transcription", **facts: Any) -> multipart.Form:
    request = LEGS[name, "openai"].request(call, TargetFacts("t/m", "theirs", **facts))
    assert request.content_type == CONTENT_TYPE
    return multipart.parse(request.body, request.content_type)


def test_a_call_knows_its_length_and_its_fields() -> None:
    call = call_of(("stream", "TRUE"), ("user", "ann"), ("prompt", "é"))
    assert (call.model, call.stream, call.user) == ("public", True, "ann")
    assert json.loads(bytes(call.fields["prompt"])) == "é"
    assert call.estimated is not None
    assert 1_500 <= call.estimated.audio_ms <= 1_502  # its 44 header bytes too
    unknown = TRANSCRIPTION.parse(form(("model", "m"), ("file", ("a.mp3", b"\xff" * 32_000))), CONTENT_TYPE)
    assert unknown.estimated == UsageCounts(audio_ms=2_000)


def test_nothing_is_written_anew_when_nothing_changes() -> None:
    call = call_of(("response_format", "verbose_json"))
    request = LEGS["transcription", "openai"].request(call, TargetFacts("t/m", "public"))
    assert request.body is call.body


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [(None, None), ("json", "json"), ("text", "json"), ("srt", "verbose_json"), ("vtt", "verbose_json"),
     ("verbose_json", "verbose_json"), ("diarized_json", "diarized_json")],
)  # fmt: skip
def test_the_target_is_asked_for_a_format_that_tells_the_use(wanted: str | None, sent: str | None) -> None:
    fields = [("response_format", wanted)] if wanted else []
    parsed = asked(call_of(*fields))
    assert (parsed.text("model"), parsed.text("response_format")) == ("theirs", sent)
    assert parsed.require_file("file").size == len(SOUND[1])
    translated = asked(call_of(*fields, codec=TRANSLATION), "translation")
    assert translated.text("response_format") == (wanted if wanted == "diarized_json" else "verbose_json")
    silent = asked(call_of(*fields), options={"transcription_format": "verbose_json"})
    assert silent.text("response_format") == (wanted if wanted == "diarized_json" else "verbose_json")


def test_own_engines_tell_usage_in_streams() -> None:
    parsed = asked(call_of(("stream", "true")), running_usage=True)
    assert parsed.text("stream_include_usage") == "true"
    assert parsed.text("stream_continuous_usage_stats") == "true"
    assert asked(call_of(("stream", "true"))).text("stream_include_usage") is None


def answer(call: Call, body: object, content_type: str = JSON, name: str = "transcription") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return LEGS[name, "openai"].answer(call, raw, content_type)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"type": "duration", "seconds": 9}, UsageCounts(audio_ms=9_000)),
        ({"type": "duration", "seconds": 4.598}, UsageCounts(audio_ms=4_598)),
        ({"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 4, "audio_tokens": 10}, "output_tokens": 45,
          "total_tokens": 59}, UsageCounts(input_tokens=14, audio_input_tokens=10, output_tokens=45)),
        ({"seconds": 9.2, "input_tokens": 83, "output_tokens": 30, "total_tokens": 113, "cost": 0.0005}, UsageCounts(audio_ms=9_200)),
        ({"type": "tokens", "seconds": 9.2, "input_tokens": 83, "output_tokens": 30}, UsageCounts(input_tokens=83, output_tokens=30)),
        ("nothing", None),
        (None, None),
    ],
)  # fmt: skip
def test_what_a_transcript_used(usage: object, counts: UsageCounts | None) -> None:
    body = {"text": "Imagine.", "usage": usage}
    given = answer(call_of(), body)
    assert given.counts == counts
    assert json.loads(given.body) == body
    assert answer(call_of(("response_format", "text")), body).body == b"Imagine.\n"


def test_srt_and_vtt_are_made_from_segments() -> None:
    body = {"text": "One", "duration": "3662.5", "segments": SEGMENTS}
    srt = answer(call_of(("response_format", "srt")), body)
    assert (srt.body.decode(), srt.content_type) == (SRT, "text/plain; charset=utf-8")
    assert srt.counts == UsageCounts(audio_ms=3_662_500)
    vtt = answer(call_of(("response_format", "vtt")), body)
    assert vtt.content_type == "text/vtt; charset=utf-8"
    assert vtt.body.decode().startswith(
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\nOne -> two.\n\n01:01:01.250"
    )


def test_a_callers_json_stays_short_when_the_target_was_asked_for_more() -> None:
    call = call_of(codec=TRANSLATION)
    given = answer(
        call,
        {"text": "Hi", "duration": 8.47, "language": "english", "segments": SEGMENTS},
        name="translation",
    )
    assert json.loads(given.body) == {"text": "Hi", "usage": {"type": "duration", "seconds": 8.47}}
    assert given.counts == UsageCounts(audio_ms=8_470)
    verbose = call_of(("response_format", "verbose_json"), codec=TRANSLATION)
    assert "segments" in json.loads(
        answer(verbose, {"text": "Hi", "segments": SEGMENTS}, name="translation").body
    )


def test_an_answer_in_a_format_of_the_targets_own_passes() -> None:
    given = answer(call_of(("response_format", "srt")), b"1\n00:00", "text/plain")
    assert (given.body, given.counts, given.content_type) == (b"1\n00:00", None, "text/plain")
    assert answer(call_of(), {"text": "x", "duration": "nan"}).counts is None


@pytest.mark.parametrize("codec", [TRANSCRIPTION, TRANSLATION])
def test_forms_that_are_refused(codec: Any) -> None:
    def refused(body: bytes, kind: type[Exception], words: str, content_type: str = CONTENT_TYPE) -> None:
        with pytest.raises(kind, match=words):
            codec.parse(body, content_type)

    refused(form(("file", SOUND)), InvalidParameter, "'model' is required")
    refused(form(("model", "m")), InvalidParameter, "'file' is required")
    refused(
        form(("model", "m"), ("file", SOUND), ("stream", "maybe")),
        InvalidParameter,
        "'stream' must be true or false",
    )
    refused(
        form(("model", "m"), ("file", SOUND), ("response_format", "")),
        InvalidParameter,
        "'response_format' is empty",
    )
    refused(b'{"model":"m"}', UnsupportedMedia, "multipart/form-data", JSON)
    refused(form(("model", "m"), ("file", SOUND), closed=False), MalformedBody, "cut off")


def test_a_parameter_that_a_target_lacks() -> None:
    with pytest.raises(UnsupportedParameter, match=r"'include\[\]' is not something that t/m has"):
        asked(call_of(("include[]", "logprobs")), options={"unsupported.transcription": "include[]"})


def spoken(**fields: Any) -> Call:
    return SPEECH.parse(
        json.dumps({"model": "public", "input": "Grüße!", "voice": "joe", **fields}).encode(), JSON
    )


def test_speech_is_charged_by_characters_and_passes_as_it_comes() -> None:
    call = spoken()
    assert call.stream
    assert call.estimated == UsageCounts(characters=6)
    leg = LEGS["speech", "openai"]
    assert json.loads(leg.request(call, TargetFacts("t/m", "theirs")).body)["model"] == "theirs"
    assert leg.streams("audio/mpeg")
    assert not leg.streams("application/json")
    meter = leg.meter(call)
    assert (meter.feed(b""), meter.started, meter.counts()) == (b"", False, None)
    assert meter.feed(b"ID3data: x\r\n\r\n") == b"ID3data: x\r\n\r\n"
    assert (meter.started, meter.ended) == (True, False)
    assert (meter.close(), meter.tail(), meter.ended) == (b"", b"", True)
    assert meter.counts() == UsageCounts(characters=6)


def test_no_sound_at_all_is_no_whole_answer() -> None:
    meter = LEGS["speech", "openai"].meter(spoken())
    meter.close()
    assert not meter.ended


def test_an_error_is_never_written_into_sound() -> None:
    assert SPEECH.error_event(UpstreamBroke("x"), "req_1") is None
    assert SPEECH.stream_type("audio/mpeg") == "audio/mpeg"
    assert SPEECH.stream_type("text/event-stream") == "text/event-stream; charset=utf-8"


def test_speech_as_events_ends_with_the_targets_usage() -> None:
    meter = LEGS["speech", "openai"].meter(spoken(stream_format="sse"))
    delta = b'data: {"type":"speech.audio.delta","audio":"UklGRg=="}\n\n'
    done = b'data: {"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}\n\n'
    assert meter.feed(delta + done[:30]) == delta
    assert meter.started
    assert meter.counts() == UsageCounts(characters=6)
    assert meter.feed(done[30:]) == b""
    assert (meter.ended, meter.tail()) == (True, done)
    assert meter.counts() == UsageCounts(input_tokens=14, output_tokens=101)


@pytest.mark.parametrize(
    ("fields", "param"), [({"input": ""}, "input"), ({"input": 7}, "input"), ({"model": None}, "model")]
)
def test_speech_that_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        spoken(**fields)
    assert caught.value.param == param
