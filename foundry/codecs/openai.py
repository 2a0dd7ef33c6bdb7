"""OpenAI's chat completions, completions and embeddings, as callers speak them, and their leg to a target that speaks the same.

What it does not know: I/O, targets, money.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from foundry.codecs.base import BYTES_PER_TOKEN, SSE, Answer, Call, TargetFacts, Told, UpstreamRequest
from foundry.codecs.fields import count, flag, member, model_name, split, text
from foundry.codecs.openai_errors import error_body, error_event
from foundry.codecs.openai_stream import SseMeter, Usage
from foundry.errors import FoundryError, InvalidParameter
from foundry.types.deployment import Task
from foundry.types.usage import UsageCounts

_RAW_NULL, _RAW_TRUE = msgspec.Raw(b"null"), msgspec.Raw(b"true")
_WORDS = 500
"""Characters of an unreadable error body that are quoted."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None

    def said(self) -> str:
        return self.text or (self.message.content if self.message else None) or ""


class _Answer(msgspec.Struct):
    usage: Usage | None = None


class _Said(msgspec.Struct):
    choices: list[_Choice] = []


class _Error(msgspec.Struct):
    message: str = ""
    param: str | None = None


class _Failure(msgspec.Struct):
    error: _Error


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_stream_options = msgspec.json.Decoder(_StreamOptions | None)
_answer = msgspec.json.Decoder(_Answer)
_said = msgspec.json.Decoder(_Said)
_failure = msgspec.json.Decoder(_Failure)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class OpenAICodec:
    """One of OpenAI's JSON-in, JSON-or-SSE-out endpoints."""

    name: str
    path: str
    tasks: frozenset[Task]
    input_field: str
    """The member without which the request means nothing."""
    streams: bool

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody or InvalidParameter."""
        del content_type  # OpenAI's own endpoint reads JSON whatever the type says
        fields = split(body)
        model = model_name(fields)
        if self.input_field not in fields:
            raise InvalidParameter(f"'{self.input_field}' is required", param=self.input_field)
        stream = self.streams and flag(fields, "stream")
        options = None
        if stream and "stream_options" in fields:
            expected = 'an object such as {"include_usage": true}'
            options = member(fields, "stream_options", _stream_options, expected)
        wants_usage = options is not None and bool(options.include_usage)
        return Call(
            model=model,
            stream=stream,
            fields=fields,
            wants_usage=wants_usage,
            wants_running_usage=wants_usage and options is not None and bool(options.continuous_usage_stats),
            max_output_tokens=_max_output_tokens(fields),
            user=text(fields, "safety_identifier") or text(fields, "user"),
        )

    def stream_type(self, upstream_type: str) -> str:
        """Server-sent events."""
        del upstream_type
        return f"{SSE}; charset=utf-8"

    def error_body(self, error: FoundryError, request_id: str) -> bytes:
        """`{"error": {...}}`."""
        return error_body(error, request_id)

    def error_event(self, error: FoundryError, request_id: str) -> bytes:
        """The same as a server-sent event: what the official clients raise on."""
        return error_event(error, request_id)


def _max_output_tokens(fields: dict[str, msgspec.Raw]) -> int | None:
    bound = count(fields, "max_completion_tokens")
    if bound is None:
        bound = count(fields, "max_tokens")
    if bound is None or "n" not in fields:
        return bound
    return bound * (count(fields, "n") or 1)


@dataclass(frozen=True, slots=True)
class OpenAILeg:
    """OpenAI on both sides: the body goes on with the model renamed and usage asked for, all else as it came."""

    path: str

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The target's request."""
        fields = call.fields
        if target.model != call.model:
            fields = {**fields, "model": msgspec.Raw(_encoder.encode(target.model))}
        if call.stream and target.options.get("stream_usage") == "no":
            fields = {name: value for name, value in fields.items() if name != "stream_options"}
        elif call.stream:
            sent = fields.get("stream_options", _RAW_NULL)
            options = {} if sent == _RAW_NULL else _members.decode(sent)
            options["include_usage"] = _RAW_TRUE
            if target.running_usage:
                options["continuous_usage_stats"] = _RAW_TRUE
            fields = {**fields, "stream_options": msgspec.Raw(_encoder.encode(options))}
        return UpstreamRequest(self.path, _encoder.encode(fields))

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """The answer as it came; unreadable usage counts as none told."""
        del call, content_type
        counts = _counts(body)
        return Answer(body, counts, _estimated_output_tokens(body) if counts is None else 0)

    def streams(self, content_type: str) -> bool:
        """Server-sent events."""
        return content_type == SSE

    def meter(self, call: Call) -> SseMeter:
        """A fresh meter for one streamed answer."""
        return SseMeter(wants_usage=call.wants_usage, wants_running_usage=call.wants_running_usage)

    def told(self, body: bytes) -> Told:
        """OpenAI's error object, or the beginning of whatever came."""
        return told(body)


def told(body: bytes) -> Told:
    """The words of an error answer in OpenAI's shape, or the beginning of whatever came."""
    try:
        error = _failure.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Told(body[:_WORDS].decode(errors="replace").strip())
    return Told(error.message, error.param)


def _counts(body: bytes) -> UsageCounts | None:
    try:
        usage = _answer.decode(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return usage.counts() if usage else None


def _estimated_output_tokens(body: bytes) -> int:
    """Bytes of generated text over `BYTES_PER_TOKEN`; 0 for an answer without text."""
    try:
        choices = _said.decode(body).choices
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return sum(-(-len(choice.said().encode()) // BYTES_PER_TOKEN) for choice in choices)


_GENERATE, _EMBED = frozenset({Task.GENERATE}), frozenset({Task.EMBED})
CHAT = OpenAICodec("chat", "/v1/chat/completions", _GENERATE, "messages", streams=True)
COMPLETIONS = OpenAICodec("completions", "/v1/completions", _GENERATE, "prompt", streams=True)
EMBEDDINGS = OpenAICodec("embeddings", "/v1/embeddings", _EMBED, "input", streams=False)
