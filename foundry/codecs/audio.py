"""Sound: transcription and translation (forms with a file in, text or events out), speech (JSON in, sound out).

Transcripts as text, srt and vtt are made here from the target's JSON, because only that tells the use; translations are asked
for as `verbose_json` for the same reason: their plain JSON tells nothing. What it does not know: I/O, money, how sound is decoded.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass

import msgspec

from foundry.codecs import multipart, subtitles
from foundry.codecs.base import JSON, SSE, Answer, Call, Meter, TargetFacts, UpstreamRequest
from foundry.codecs.event_meter import ByteMeter, EventMeter
from foundry.codecs.fields import model_name, text
from foundry.codecs.form_fields import form_flag, form_model
from foundry.codecs.media_usage import MediaUsage
from foundry.codecs.multipart import Form, Part
from foundry.codecs.openai_media import (
    SSE_TYPE,
    MediaCodec,
    MediaLeg,
    Members,
    encode,
    refuse_unsupported,
    user_of,
)
from foundry.errors import FoundryError, InvalidParameter
from foundry.types.deployment import Task
from foundry.types.usage import UsageCounts

FORMAT = "transcription_format"
"""`TargetFacts.options[...]`: "verbose_json" for a vendor whose plain JSON tells neither usage nor duration."""
_VERBOSE = "verbose_json"
_ASKED_AS = {"": "json", "json": "json", "text": "json", "srt": _VERBOSE, "vtt": _VERBOSE}
"""What the caller wants to what the target is asked for; other formats (verbose_json, diarized_json) as they are."""
_EVENTS = msgspec.Raw(b'"sse"')
_HEAD_BYTES = 4096
"""Where a WAV file's header ends at the latest, in files as recorders write them."""
_COMPRESSED_BYTES_PER_S = 16_000
"""128 kbit/s: the estimate for sound whose length its first bytes do not tell."""


_ABSENT = msgspec.Raw(b"null")
"""Of a member that need not be there: `Raw | None` is no type that msgspec decodes."""


class _Segment(msgspec.Struct):
    start: float = 0.0
    end: float = 0.0
    text: str = ""


class _Transcript(msgspec.Struct):
    text: str
    usage: msgspec.Raw = _ABSENT
    duration: float | str | None = None
    """Seconds; vLLM writes a string."""
    segments: list[_Segment] | None = None


_transcript = msgspec.json.Decoder(_Transcript)
_usage = msgspec.json.Decoder(MediaUsage | None)


@dataclass(frozen=True, slots=True)
class TranscriptCodec(MediaCodec):
    """Transcription or translation: a form with a file."""

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody, UnsupportedMedia or InvalidParameter."""
        form = multipart.parse(body, content_type)
        model = form_model(form)
        file = form.require_file("file")
        if form.text("response_format") == "":
            raise InvalidParameter(
                "'response_format' is empty: leave it out for json", param="response_format"
            )
        return Call(
            model=model,
            stream=form_flag(form, "stream"),
            fields=form.fields(),
            user=form.text("user") or "",
            body=body,
            content_type=content_type,
            estimated=UsageCounts(audio_ms=_duration_ms(form, file)),
        )


@dataclass(frozen=True, slots=True)
class TranscriptLeg(MediaLeg):
    """To a target that has OpenAI's endpoint."""

    asks_verbose: bool = False
    """Ask every target for `verbose_json` where the caller wants plain JSON."""

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The form with the target's model, in a format that tells the use."""
        refuse_unsupported(self.name, call, target)
        wanted = _wanted(call)
        asked = _ASKED_AS.get(wanted, wanted)
        if asked == "json" and (self.asks_verbose or target.options.get(FORMAT) == _VERBOSE):
            asked = _VERBOSE
        changes: dict[str, str] = {}
        if target.model != call.model:
            changes["model"] = target.model
        if call.stream:
            if target.running_usage:  # vLLM's words
                changes |= {"stream_include_usage": "true", "stream_continuous_usage_stats": "true"}
        elif asked != (wanted or "json"):
            changes["response_format"] = asked
        body = multipart.parse(call.body, call.content_type).written(changes) if changes else call.body
        return UpstreamRequest(self.path_at(target), body, call.content_type)

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """The transcript in the format that the caller asked for."""
        try:
            read = _transcript.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Answer(body, None, content_type=content_type or JSON)  # a format of the target's own
        counts = _counts(read)
        wanted = _wanted(call)
        if wanted in subtitles.TYPES and not call.stream:
            return Answer(_as_text(wanted, read).encode(), counts, content_type=subtitles.TYPES[wanted])
        if wanted in {"", "json"} and read.segments is not None:
            return Answer(_as_json(read, counts), counts)
        return Answer(body, counts, content_type=content_type or JSON)

    def meter(self, call: Call) -> Meter:
        """Of transcript events."""
        return EventMeter()


def _wanted(call: Call) -> str:
    return text(call.fields, "response_format")


def _counts(read: _Transcript) -> UsageCounts | None:
    if read.usage != _ABSENT:
        try:
            usage = _usage.decode(read.usage)
        except (msgspec.DecodeError, UnicodeDecodeError):
            usage = None
        if usage is not None and (told := usage.counts()) is not None:
            return told
    try:
        return None if read.duration is None else UsageCounts(audio_ms=round(float(read.duration) * 1000))
    except (ValueError, OverflowError):
        return None


def _as_text(wanted: str, read: _Transcript) -> str:
    segments = read.segments or []
    if wanted == "srt":
        return subtitles.srt(segments)
    return subtitles.vtt(segments) if wanted == "vtt" else read.text.strip() + "\n"


def _as_json(read: _Transcript, counts: UsageCounts | None) -> bytes:
    short: dict[str, object] = {"text": read.text}
    if read.usage != _ABSENT:
        short["usage"] = read.usage
    elif counts is not None:
        short["usage"] = {"type": "duration", "seconds": counts.audio_ms / 1000}
    return encode(short)


def _duration_ms(form: Form, file: Part) -> int:
    """Of a WAV file from its header, of anything else from its size: an estimate."""
    head = form.body[file.start : min(file.end, file.start + _HEAD_BYTES)]
    try:
        with wave.open(io.BytesIO(head)) as sound:
            bytes_per_s = sound.getframerate() * sound.getnchannels() * sound.getsampwidth()
    except (wave.Error, EOFError, RuntimeError):  # the last of a size that points behind the end
        bytes_per_s = _COMPRESSED_BYTES_PER_S
    return round(1000 * file.size / max(1, bytes_per_s))


@dataclass(frozen=True, slots=True)
class SpeechCodec(MediaCodec):
    """Speech: JSON in; sound that passes on as it is made, or as events (`stream_format: "sse"`)."""

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody, UnsupportedMedia or InvalidParameter."""
        fields = self.members(body, content_type)
        spoken = text(fields, "input")
        if not spoken:
            raise InvalidParameter("'input' is empty: give the text to speak", param="input")
        return Call(
            model=model_name(fields),
            stream=True,
            fields=fields,
            user=user_of(fields),
            estimated=UsageCounts(characters=len(spoken)),
        )

    def stream_type(self, upstream_type: str) -> str:
        """The sound's own type."""
        return SSE_TYPE if upstream_type.startswith(SSE) else upstream_type

    def error_event(self, error: FoundryError, request_id: str) -> bytes | None:
        """None: an error in the middle of sound would be noise, so the connection is broken off."""
        del error, request_id


@dataclass(frozen=True, slots=True)
class SpeechLeg(MediaLeg):
    """To a target that has OpenAI's endpoint."""

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """JSON where sound was due: the target's own words, charged by the characters."""
        return Answer(body, MediaLeg.counts(self, body) or call.estimated, content_type=content_type or JSON)

    def streams(self, content_type: str) -> bool:
        """Everything but JSON."""
        return not content_type.startswith(JSON)

    def meter(self, call: Call) -> Meter:
        """Of sound, or of events that carry it."""
        counts = call.estimated or UsageCounts()
        if _wants_events(call.fields):
            return EventMeter(untold=counts)
        return ByteMeter(counts)


def _wants_events(fields: Members) -> bool:
    return fields.get("stream_format") == _EVENTS


_TRANSCRIBE = frozenset({Task.TRANSCRIBE})
AUDIO_CODECS: tuple[MediaCodec, ...] = (
    TranscriptCodec("transcription", "/v1/audio/transcriptions", _TRANSCRIBE),
    TranscriptCodec("translation", "/v1/audio/translations", _TRANSCRIBE),
    SpeechCodec("speech", "/v1/audio/speech", frozenset({Task.SPEAK}), (("input",),)),
)
AUDIO_LEGS: dict[str, MediaLeg] = {
    "transcription": TranscriptLeg("transcription", "/v1/audio/transcriptions"),
    "translation": TranscriptLeg("translation", "/v1/audio/translations", asks_verbose=True),
    "speech": SpeechLeg("speech", "/v1/audio/speech"),
}
"""Codec to its leg over the wire "openai"."""
