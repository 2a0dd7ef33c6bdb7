"""Anthropic Messages and its token counting as callers speak them: `MESSAGES` and `COUNT_TOKENS`.

`anthropic-version` and `anthropic-beta` are tolerated and not read: a target's version is a fact of its provider row.
What it does not know: I/O, targets, money.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from foundry.codecs.anthropic_dialect import MESSAGES_CALLER
from foundry.codecs.anthropic_errors import error_body, error_event, told
from foundry.codecs.anthropic_request import read_max_tokens, user_of
from foundry.codecs.anthropic_target_request import headers
from foundry.codecs.base import SSE, Answer, Call, Meter, TargetFacts, Told, UpstreamRequest
from foundry.codecs.chat_target_request import write_count_request
from foundry.codecs.fields import flag, model_name, split
from foundry.codecs.members import raw
from foundry.codecs.openai import told as openai_told
from foundry.errors import FoundryError, InvalidParameter, ProtocolNotServed, UpstreamBroke
from foundry.types.deployment import Task
from foundry.types.usage import UsageCounts

_NOTHING = UsageCounts()
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class AnthropicCodec:
    """One of Anthropic's endpoints for conversations."""

    name: str
    path: str
    answers: bool
    """It generates an answer; else it counts tokens."""
    tasks: frozenset[Task] = frozenset({Task.GENERATE})

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody or InvalidParameter."""
        del content_type  # Anthropic's own endpoint reads JSON whatever the type says
        fields = split(body)
        model = model_name(fields)
        if "messages" not in fields:
            raise InvalidParameter("'messages' is required", param="messages")
        return Call(
            model=model,
            stream=self.answers and flag(fields, "stream"),
            fields=fields,
            max_output_tokens=read_max_tokens(fields) if self.answers else 0,
            user=user_of(fields),
        )

    def stream_type(self, upstream_type: str) -> str:
        """Server-sent events."""
        del upstream_type
        return f"{SSE}; charset=utf-8"

    def error_body(self, error: FoundryError, request_id: str) -> bytes:
        """`{"type": "error", "error": {...}}`."""
        return error_body(error, request_id)

    def error_event(self, error: FoundryError, request_id: str) -> bytes:
        """The same as the event `error`: what the official clients raise on."""
        return error_event(error, request_id)


class _Counted(msgspec.Struct):
    count: int


_counted = msgspec.json.Decoder(_Counted)


class _Whole:
    """A leg whose answers never stream and use no tokens."""

    def streams(self, content_type: str) -> bool:
        """Never."""
        del content_type
        return False

    def meter(self, call: Call) -> Meter:
        """Never asked for: `streams` says no."""
        raise UpstreamBroke(f"a count of tokens for '{call.model}' does not stream")


class CountOverAnthropic(_Whole):
    """Counting by Anthropic itself."""

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The body as it came, the model renamed."""
        fields = {**call.fields, "model": raw(target.model)}
        return UpstreamRequest(COUNT_TOKENS.path, _encoder.encode(fields), headers=headers(target))

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """The answer as it came."""
        del call, content_type
        return Answer(body, _NOTHING)

    def told(self, body: bytes) -> Told:
        """Anthropic's words."""
        return told(body)


class CountOverEngine(_Whole):
    """Counting by an own engine: it renders the very messages that the chat endpoint would be sent with its own chat template
    (vLLM's `/tokenize`), so the count equals the `input_tokens` of the answer."""

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """Raises ProtocolNotServed for vendors: none of them counts before it answers."""
        if not target.running_usage:
            raise ProtocolNotServed(
                f"the target '{target.target_id}' cannot count tokens: use a model on an own engine or at Anthropic"
            )
        return write_count_request(MESSAGES_CALLER.read_request(call), target)

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """Anthropic's count. Raises UpstreamBroke."""
        del call, content_type
        try:
            count = _counted.decode(body).count
        except msgspec.DecodeError as error:
            raise UpstreamBroke(f"the engine's count of tokens cannot be read: {error}") from error
        return Answer(_encoder.encode({"input_tokens": count}), _NOTHING)

    def told(self, body: bytes) -> Told:
        """The engine's words."""
        return openai_told(body)


MESSAGES = AnthropicCodec("messages", "/v1/messages", answers=True)
COUNT_TOKENS = AnthropicCodec("count_tokens", "/v1/messages/count_tokens", answers=False)
