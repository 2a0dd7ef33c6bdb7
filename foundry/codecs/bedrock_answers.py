"""AWS Bedrock as a target: Converse's answers, ConverseStream's binary events, and errors, to the neutral chat types.

Counts: Bedrock tells cache reads and writes beside `inputTokens`, so input = inputTokens + read + written; it tells no reasoning
tokens. A stream is whole with the `metadata` event behind `messageStop`. What it does not know: I/O, who called.
"""

from __future__ import annotations

from secrets import token_hex
from typing import TypeVar

import msgspec
from botocore.eventstream import EventStreamBuffer, ParserError

from foundry.codecs.base import Told
from foundry.errors import UpstreamBroke
from foundry.types.chat import (
    ChatAnswer,
    ChatEvent,
    Choice,
    Counted,
    Ended,
    Failed,
    Finished,
    FinishReason,
    Part,
    Reasoning,
    ReasoningDelta,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from foundry.types.usage import UsageCounts

EVENT_STREAM = "application/vnd.amazon.eventstream"
_FINISH: dict[str, FinishReason] = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
"""All others (end_turn, stop_sequence, malformed_model_output, ...) are "stop"."""
T = TypeVar("T")


class _Json(msgspec.Struct, rename="camel", frozen=True):
    """Base: Bedrock's names."""


class _ReasoningText(_Json, frozen=True):
    text: str = ""
    signature: str | None = None


class _Reasoning(_Json, frozen=True):
    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None


class _ToolUse(_Json, frozen=True):
    tool_use_id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Block(_Json, frozen=True):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None


class _Message(_Json, frozen=True):
    content: list[_Block] = []


class _Output(_Json, frozen=True):
    message: _Message | None = None


class _Usage(_Json, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0

    def counts(self) -> UsageCounts:
        """In our terms."""
        read, written = self.cache_read_input_tokens, self.cache_write_input_tokens
        return UsageCounts(
            input_tokens=self.input_tokens + read + written,
            cached_input_tokens=read,
            cache_write_tokens=written,
            output_tokens=self.output_tokens,
        )


class _Answer(_Json, frozen=True):
    output: _Output
    stop_reason: str = "end_turn"
    usage: _Usage | None = None


class _ToolStart(_Json, frozen=True):
    tool_use_id: str
    name: str


class _Start(_Json, frozen=True):
    tool_use: _ToolStart | None = None


class _BlockStart(_Json, frozen=True):
    start: _Start = _Start()
    content_block_index: int = 0


class _ToolDelta(_Json, frozen=True):
    input: str = ""


class _ReasoningPiece(_Json, frozen=True):
    text: str = ""
    signature: str | None = None
    redacted_content: str | None = None


class _Delta(_Json, frozen=True):
    text: str | None = None
    tool_use: _ToolDelta | None = None
    reasoning_content: _ReasoningPiece | None = None


class _BlockDelta(_Json, frozen=True):
    delta: _Delta = _Delta()
    content_block_index: int = 0


class _BlockStop(_Json, frozen=True):
    content_block_index: int = 0


class _Stop(_Json, frozen=True):
    stop_reason: str = "end_turn"


class _Metadata(_Json, frozen=True):
    usage: _Usage | None = None


class _Said(msgspec.Struct):
    message: str | None = None
    Message: str | None = None


_answer = msgspec.json.Decoder(_Answer)
_block_start = msgspec.json.Decoder(_BlockStart)
_block_delta = msgspec.json.Decoder(_BlockDelta)
_block_stop = msgspec.json.Decoder(_BlockStop)
_stop = msgspec.json.Decoder(_Stop)
_metadata = msgspec.json.Decoder(_Metadata)
_said = msgspec.json.Decoder(_Said)


def read_answer(body: bytes) -> ChatAnswer:
    """A whole answer. Raises UpstreamBroke."""
    answer = _read(_answer, body)
    parts: list[Part] = []
    for block in answer.output.message.content if answer.output.message else ():
        if block.text is not None:
            parts.append(Text(block.text))
        elif block.tool_use is not None:
            call = block.tool_use
            parts.append(ToolCall(call.tool_use_id, call.name, bytes(call.input).decode()))
        elif block.reasoning_content is not None:
            thought = block.reasoning_content.reasoning_text or _ReasoningText()
            parts.append(Reasoning(thought.text, thought.signature, block.reasoning_content.redacted_content))
    reason = _FINISH.get(answer.stop_reason, "stop")
    return ChatAnswer(
        id=token_hex(12),
        choices=(Choice(0, tuple(parts), reason),),
        counts=answer.usage.counts() if answer.usage else None,
    )


def told(body: bytes) -> Told:
    """An error answer's words."""
    try:
        said = _said.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return Told(body.decode(errors="replace"))
    return Told(said.message or said.Message or body.decode(errors="replace"))


class BedrockReader:
    """Events of one stream."""

    __slots__ = ("_buffer", "_silent", "_stopped", "_told_usage", "_tools")

    def __init__(self) -> None:
        self._buffer = EventStreamBuffer()
        self._tools: dict[int, int] = {}
        self._silent: set[int] = set()
        self._stopped = self._told_usage = False

    def feed(self, data: bytes) -> list[ChatEvent]:
        """Events that are complete now. Raises UpstreamBroke."""
        self._buffer.add_data(data)
        events: list[ChatEvent] = []
        try:
            for message in self._buffer:
                events.extend(self._message(message.headers, message.payload))
        except ParserError as error:
            raise UpstreamBroke(f"Bedrock's event stream cannot be read: {error}") from error
        return events

    def close(self) -> list[ChatEvent]:
        """`Ended` for a stream that stopped without telling its counts."""
        return [Ended()] if self._stopped and not self._told_usage else []

    def _message(self, headers: dict[str, object], payload: bytes) -> list[ChatEvent]:
        kind = headers.get(":message-type")
        if kind == "exception":
            return [Failed(f"{headers.get(':exception-type')}: {told(payload).message}")]
        if kind == "error":
            return [Failed(f"{headers.get(':error-code')}: {headers.get(':error-message')}")]
        match headers.get(":event-type"):
            case "messageStart":
                events: list[ChatEvent] = [Started(token_hex(12))]
            case "contentBlockStart":
                events = self._begin(_read(_block_start, payload))
            case "contentBlockDelta":
                events = self._delta(_read(_block_delta, payload))
            case "contentBlockStop":
                events = self._end(_read(_block_stop, payload).content_block_index)
            case "messageStop":
                self._stopped = True
                events = [Finished(_FINISH.get(_read(_stop, payload).stop_reason, "stop"))]
            case "metadata":
                events = self._metadata(_read(_metadata, payload))
            case _:
                events = []
        return events

    def _begin(self, event: _BlockStart) -> list[ChatEvent]:
        tool = event.start.tool_use
        if tool is None:
            return []
        number = self._tools[event.content_block_index] = len(self._tools)
        self._silent.add(event.content_block_index)
        return [ToolCallDelta(number, id=tool.tool_use_id, name=tool.name)]

    def _delta(self, event: _BlockDelta) -> list[ChatEvent]:
        delta = event.delta
        if delta.text is not None:
            return [TextDelta(delta.text)]
        if delta.tool_use is not None:
            if delta.tool_use.input:
                self._silent.discard(event.content_block_index)
            return [ToolCallDelta(self._tools.get(event.content_block_index, 0), delta.tool_use.input)]
        piece = delta.reasoning_content
        return [ReasoningDelta(piece.text, piece.signature, piece.redacted_content)] if piece else []

    def _end(self, index: int) -> list[ChatEvent]:
        """A tool that takes nothing is called without any input: as JSON that is an empty object."""
        if index not in self._silent:
            return []
        self._silent.discard(index)
        return [ToolCallDelta(self._tools[index], "{}")]

    def _metadata(self, event: _Metadata) -> list[ChatEvent]:
        self._told_usage = self._stopped
        events: list[ChatEvent] = [Counted(event.usage.counts())] if event.usage else []
        return [*events, Ended()] if self._stopped else events


def _read(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UpstreamBroke(f"Bedrock's answer cannot be read: {error}") from error
