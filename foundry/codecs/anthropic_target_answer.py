"""Anthropic messages and their events in neutral terms.

Anthropic's `input_tokens` leave out what was read from or written to a prompt cache; ours include it. Output is told at the end
of a stream only. What it does not know: callers' protocols, requests, I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from foundry.codecs.anthropic_errors import ErrorWords
from foundry.codecs.sse import SseSplitter
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
    Refusal,
    RefusalDelta,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from foundry.types.usage import UsageCounts

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "content_filter",
}
_WORDS = 300
"""Characters of something unreadable that are quoted."""


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int = 0


class AnthropicUsage(msgspec.Struct):
    """Anthropic's `usage`; None: not told (yet)."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None

    def merged(self, later: AnthropicUsage) -> AnthropicUsage:
        """This, with what was told later: counts are cumulative, so the later ones hold."""
        told = {name: value for name, value in msgspec.structs.asdict(later).items() if value is not None}
        return msgspec.structs.replace(self, **told)

    def counts(self) -> UsageCounts:
        """The same in our terms."""
        cached, written = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        return UsageCounts(
            input_tokens=(self.input_tokens or 0) + cached + written,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            output_tokens=self.output_tokens or 0,
            reasoning_tokens=self.output_tokens_details.thinking_tokens if self.output_tokens_details else 0,
        )


class _StopDetails(msgspec.Struct):
    explanation: str | None = None


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Message(msgspec.Struct):
    id: str = ""
    content: list[_Block] = []
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: _StopDetails | None = None
    usage: AnthropicUsage | None = None


class _Whole(_Message):
    type: str = "message"
    error: ErrorWords | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    partial_json: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: _StopDetails | None = None


class AnthropicEvent(msgspec.Struct):
    """Any event of a stream; which members hold depends on `type`."""

    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: AnthropicUsage | None = None
    error: ErrorWords | None = None


_whole = msgspec.json.Decoder(_Whole)
_event = msgspec.json.Decoder(AnthropicEvent)


def read_event(data: bytes) -> AnthropicEvent:
    """One event. Raises UpstreamBroke."""
    try:
        return _event.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(data, error) from error


def _unreadable(data: bytes, error: Exception) -> UpstreamBroke:
    words = data[:_WORDS].decode(errors="replace")
    return UpstreamBroke(f"the upstream's answer cannot be read ({error}): {words}")


def read_answer(body: bytes) -> ChatAnswer:
    """A whole answer. Raises UpstreamBroke."""
    try:
        whole = _whole.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(body, error) from error
    if whole.error is not None:
        raise UpstreamBroke(f"the upstream failed: {whole.error.message}")
    choice = Choice(
        index=0,
        parts=tuple(_parts(whole)),
        finish_reason=_FINISH.get(whole.stop_reason or "end_turn", "stop"),
        stop_sequence=whole.stop_sequence,
    )
    return ChatAnswer(id=whole.id, choices=(choice,), counts=whole.usage.counts() if whole.usage else None)


def _parts(message: _Message) -> Iterator[Part]:
    for block in message.content:
        match block.type:
            case "text":
                yield Text(block.text)
            case "thinking":
                yield Reasoning(block.thinking, block.signature or None)
            case "redacted_thinking":
                yield Reasoning(redacted_base64=block.data)
            case "tool_use":
                yield ToolCall(block.id, block.name, bytes(block.input).decode())
            case _:
                pass  # blocks of Anthropic's own tools, which no other protocol's caller can have asked for
    if message.stop_details is not None and message.stop_details.explanation:
        yield Refusal(message.stop_details.explanation)


class MessageReader:
    """Reads one stream of events."""

    __slots__ = ("_calls", "_inputs", "_splitter", "_usage")

    def __init__(self) -> None:
        self._splitter = SseSplitter()
        self._usage = AnthropicUsage()
        self._calls: dict[int, int] = {}  # block to number of its tool call
        self._inputs: dict[int, bytes] = {}  # block to the input it began with, while no piece of it came

    def feed(self, data: bytes) -> Sequence[ChatEvent]:
        """Events that are complete now. Raises UpstreamBroke."""
        return self._events(self._splitter.feed(data))

    def close(self) -> Sequence[ChatEvent]:
        """What was still pending; a stream without `message_stop` does not end."""
        return self._events(self._splitter.close())

    def _events(self, payloads: list[bytes]) -> list[ChatEvent]:
        return [event for payload in payloads for event in self._event(read_event(payload))]

    def _event(self, event: AnthropicEvent) -> Iterator[ChatEvent]:
        match event.type:
            case "message_start":
                yield self._started(event.message or _Message())
            case "content_block_start" if event.content_block is not None:
                yield from self._block(event.index, event.content_block)
            case "content_block_delta" if event.delta is not None:
                yield from self._delta(event.index, event.delta)
            case "content_block_stop":
                yield from self._stopped(event.index)
            case "message_delta":
                yield from self._finished(event)
            case "message_stop":
                yield Ended()
            case "error":
                yield Failed((event.error or ErrorWords()).message)
            case _:
                pass  # pings, and kinds to come, which Anthropic asks clients to pass over

    def _started(self, message: _Message) -> Started:
        if message.usage is not None:
            self._usage = message.usage
        return Started(message.id, self._usage.counts())

    def _block(self, index: int, block: _Block) -> Iterator[ChatEvent]:
        match block.type:
            case "text" if block.text:
                yield TextDelta(block.text)
            case "thinking" if block.thinking:
                yield ReasoningDelta(block.thinking)
            case "redacted_thinking":
                yield ReasoningDelta(redacted_base64=block.data)
            case "tool_use":
                self._calls[index] = number = len(self._calls)
                self._inputs[index] = bytes(block.input)
                yield ToolCallDelta(number, "", block.id, block.name)
            case _:
                pass

    def _delta(self, index: int, delta: _Delta) -> Iterator[ChatEvent]:
        match delta.type:
            case "text_delta":
                yield TextDelta(delta.text)
            case "thinking_delta":
                yield ReasoningDelta(delta.thinking)
            case "signature_delta":
                yield ReasoningDelta(signature=delta.signature)
            case "input_json_delta" if index in self._calls and delta.partial_json:
                self._inputs.pop(index, None)
                yield ToolCallDelta(self._calls[index], delta.partial_json)
            case _:
                pass

    def _stopped(self, index: int) -> Iterator[ChatEvent]:
        """A tool call without pieces: its input is what the block began with."""
        if index in self._inputs:
            yield ToolCallDelta(self._calls[index], self._inputs.pop(index).decode())

    def _finished(self, event: AnthropicEvent) -> Iterator[ChatEvent]:
        delta = event.delta or _Delta()
        if event.usage is not None:
            self._usage = self._usage.merged(event.usage)
            yield Counted(self._usage.counts())
        if delta.stop_details is not None and delta.stop_details.explanation:
            yield RefusalDelta(delta.stop_details.explanation)
        if delta.stop_reason is not None:
            yield Finished(_FINISH.get(delta.stop_reason, "stop"), stop_sequence=delta.stop_sequence)
