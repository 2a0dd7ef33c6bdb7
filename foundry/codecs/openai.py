"""OpenAI's chat completions, completions and embeddings.

Requests are split into top-level members whose values stay raw bytes: nothing that only passes through is
parsed or written again. What it does not know: I/O, targets, money.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from foundry.codecs.base import BYTES_PER_TOKEN, Call
from foundry.codecs.openai_errors import error_body, error_event
from foundry.codecs.openai_stream import SseMeter, Usage
from foundry.errors import FoundryError, InvalidParameter, MalformedBody
from foundry.types.deployment import Task
from foundry.types.usage import UsageCounts

_RAW_NULL, _RAW_TRUE = msgspec.Raw(b"null"), msgspec.Raw(b"true")
T = TypeVar("T")


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


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)
_flag = msgspec.json.Decoder(bool | None)
_stream_options = msgspec.json.Decoder(_StreamOptions | None)
_answer = msgspec.json.Decoder(_Answer)
_said = msgspec.json.Decoder(_Said)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class OpenAICodec:
    """One of OpenAI's JSON-in, JSON-or-SSE-out endpoints."""

    name: str
    path: str
    task: Task
    input_field: str
    """The member without which the request means nothing."""
    streams: bool
    end_marker: bytes = b"data: [DONE]\n\n"

    def parse(self, body: bytes) -> Call:
        """Body to call. Raises MalformedBody or InvalidParameter."""
        fields = _split(body)
        model = _member(fields, "model", _string, "a string: the name of a model, see GET /v1/models")
        if not model:
            raise InvalidParameter("'model' is required: name one of GET /v1/models", param="model")
        if self.input_field not in fields:
            raise InvalidParameter(f"'{self.input_field}' is required", param=self.input_field)
        if not self.streams or "stream" not in fields:
            return Call(model=model, stream=False, fields=fields)
        stream = bool(_member(fields, "stream", _flag, "true or false"))
        options = (
            _member(fields, "stream_options", _stream_options, 'an object such as {"include_usage": true}')
            if stream
            else None
        )
        if options is None:
            return Call(model=model, stream=stream, fields=fields)
        return Call(
            model=model,
            stream=stream,
            fields=fields,
            wants_usage=bool(options.include_usage),
            wants_running_usage=bool(options.include_usage and options.continuous_usage_stats),
        )

    def upstream_body(self, call: Call, model: str, *, running_usage: bool) -> bytes:
        """The body to send on: model renamed, usage asked for; all else as it came."""
        fields = call.fields
        if model != call.model:
            fields = {**fields, "model": msgspec.Raw(_encoder.encode(model))}
        if call.stream:
            sent = fields.get("stream_options", _RAW_NULL)
            options = {} if sent == _RAW_NULL else _members.decode(sent)
            options["include_usage"] = _RAW_TRUE
            if running_usage:
                options["continuous_usage_stats"] = _RAW_TRUE
            fields = {**fields, "stream_options": msgspec.Raw(_encoder.encode(options))}
        return _encoder.encode(fields)

    def counts(self, body: bytes) -> UsageCounts | None:
        """Usage in a whole answer, or None when the upstream told nothing readable."""
        try:
            usage = _answer.decode(body).usage
        except msgspec.DecodeError:
            return None
        return usage.counts() if usage else None

    def estimated_output_tokens(self, body: bytes) -> int:
        """Bytes of generated text over `BYTES_PER_TOKEN`; 0 for an answer without text."""
        try:
            choices = _said.decode(body).choices
        except msgspec.DecodeError:
            return 0
        return sum(-(-len(choice.said().encode()) // BYTES_PER_TOKEN) for choice in choices)

    def meter(self, call: Call) -> SseMeter:
        """A fresh meter for one streamed answer."""
        return SseMeter(wants_usage=call.wants_usage, wants_running_usage=call.wants_running_usage)

    def error_body(self, error: FoundryError, request_id: str) -> bytes:
        """`{"error": {...}}`."""
        return error_body(error, request_id)

    def error_event(self, error: FoundryError, request_id: str) -> bytes:
        """The same as a server-sent event: what the official clients raise on."""
        return error_event(error, request_id)


def _split(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _members.decode(body)
    except msgspec.ValidationError as error:
        raise MalformedBody("the body must be a JSON object") from error
    except RecursionError as error:
        raise MalformedBody("the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body is not valid JSON: {error}") from error


def _member(
    fields: dict[str, msgspec.Raw], name: str, decoder: msgspec.json.Decoder[T], expected: str
) -> T | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"'{name}' must be {expected}", param=name) from error


CHAT = OpenAICodec(
    name="chat", path="/v1/chat/completions", task=Task.GENERATE, input_field="messages", streams=True
)
COMPLETIONS = OpenAICodec(
    name="completions", path="/v1/completions", task=Task.GENERATE, input_field="prompt", streams=True
)
EMBEDDINGS = OpenAICodec(
    name="embeddings", path="/v1/embeddings", task=Task.EMBED, input_field="input", streams=False
)
