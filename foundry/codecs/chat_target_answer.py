"""Chat completions and chunks of own engines and OpenAI-compatible vendors in neutral terms.

Servers differ in small ways that are all read here: thoughts come as `reasoning`, `reasoning_content` or parts of the content
(Mistral), pieces of tool calls with or without an index, the stop sequence as vLLM's `stop_reason`.
What it does not know: callers' protocols, requests, I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from foundry.codecs.members import NULL
from foundry.codecs.openai_stream import Usage
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

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_WORDS = 300
"""Characters of something unreadable that are quoted."""


class _Thought(msgspec.Struct):
    text: str = ""


class _ContentPart(msgspec.Struct):
    type: str = "text"
    text: str = ""
    thinking: list[_Thought] = []


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    content: str | list[_ContentPart] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None

    def thoughts(self) -> str:
        """All that was thought."""
        own = self.reasoning_content or self.reasoning
        if own or not isinstance(self.content, list):
            return own or ""
        return "".join(thought.text for part in self.content for thought in part.thinking)

    def said(self) -> str:
        """All that was said."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = NULL
    stop_reason: str | int | None = None

    def stop_sequence(self) -> str | None:
        """The stop sequence that was met, where the server tells it."""
        return self.stop_reason if isinstance(self.stop_reason, str) else None


class _Body(msgspec.Struct):
    id: str | None = None
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: msgspec.Raw = NULL


class _Error(msgspec.Struct):
    message: str = "an error without a message"


_body = msgspec.json.Decoder(_Body)
_error = msgspec.json.Decoder(_Error | str)


def _read(data: bytes) -> _Body:
    try:
        return _body.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words = data[:_WORDS].decode(errors="replace")
        raise UpstreamBroke(f"the upstream's answer cannot be read ({error}): {words}") from error


def _words(raw: msgspec.Raw) -> str:
    try:
        error = _error.decode(raw)
    except msgspec.DecodeError:
        return bytes(raw)[:_WORDS].decode(errors="replace")
    return error if isinstance(error, str) else error.message


def _logprobs(choice: _Choice) -> msgspec.Raw | None:
    return None if choice.logprobs == NULL else choice.logprobs


def read_answer(body: bytes) -> ChatAnswer:
    """A whole answer. Raises UpstreamBroke."""
    read = _read(body)
    if read.error != NULL and not read.choices:
        raise UpstreamBroke(f"the upstream failed: {_words(read.error)}")
    if read.choices is None:
        raise UpstreamBroke(f"the upstream's answer has no choices: {body[:_WORDS].decode(errors='replace')}")
    return ChatAnswer(
        id=read.id or "",
        choices=tuple(_answered(choice) for choice in read.choices),
        counts=read.usage.counts() if read.usage else None,
    )


def _answered(choice: _Choice) -> Choice:
    return Choice(
        index=choice.index,
        parts=tuple(_parts(choice.message or _Message())),
        finish_reason=_FINISH.get(choice.finish_reason or "stop", "stop"),
        logprobs=_logprobs(choice),
        stop_sequence=choice.stop_sequence(),
    )


def _parts(message: _Message) -> Iterator[Part]:
    if thoughts := message.thoughts():
        yield Reasoning(thoughts)
    if said := message.said():
        yield Text(said)
    if message.refusal:
        yield Refusal(message.refusal)
    for position, call in enumerate(message.tool_calls or ()):
        function = call.function or _Function()
        yield ToolCall(call.id or f"call_{position}", function.name or "", function.arguments or "{}")


class ChatReader:
    """Reads one stream of chunks."""

    __slots__ = ("_begun", "_calls", "_splitter")

    def __init__(self) -> None:
        self._splitter = SseSplitter()
        self._begun = False
        self._calls: dict[int, list[int]] = {}  # by choice: the calls that have begun, the last one last

    def feed(self, data: bytes) -> Sequence[ChatEvent]:
        """Events that are complete now. Raises UpstreamBroke."""
        return self._events(self._splitter.feed(data))

    def close(self) -> Sequence[ChatEvent]:
        """What was still pending; a stream without `[DONE]` does not end."""
        return self._events(self._splitter.close())

    def _events(self, payloads: list[bytes]) -> list[ChatEvent]:
        events: list[ChatEvent] = []
        for payload in payloads:
            if payload == b"[DONE]":
                events.append(Ended())
                break
            events.extend(self._chunk(_read(payload)))
        return events

    def _chunk(self, chunk: _Body) -> Iterator[ChatEvent]:
        if chunk.error != NULL:
            yield Failed(_words(chunk.error))
            return
        if not self._begun:
            self._begun = True
            yield Started(chunk.id or "")
        for choice in chunk.choices or ():
            yield from self._choice(choice)
        if chunk.usage is not None:
            yield Counted(chunk.usage.counts())

    def _choice(self, choice: _Choice) -> Iterator[ChatEvent]:
        delta, index = choice.delta, choice.index
        if delta is not None:
            if thoughts := delta.thoughts():
                yield ReasoningDelta(thoughts, index=index)
            said, logprobs = delta.said(), _logprobs(choice)
            if said or logprobs is not None:
                yield TextDelta(said, index, logprobs)
            if delta.refusal:
                yield RefusalDelta(delta.refusal, index)
            for call in delta.tool_calls or ():
                yield self._call(index, call)
        if choice.finish_reason is not None:
            yield Finished(_FINISH.get(choice.finish_reason, "stop"), index, choice.stop_sequence())

    def _call(self, index: int, call: _Call) -> ToolCallDelta:
        """A piece of a tool call: its id and name only with the first, whatever the server repeats."""
        begun = self._calls.setdefault(index, [])
        number = call.index
        if number is None:
            number = len(begun) if call.id or not begun else begun[-1]
        function = call.function or _Function()
        if number in begun:
            return ToolCallDelta(number, function.arguments or "", index=index)
        begun.append(number)
        name, call_id = function.name or "", call.id or f"call_{index}_{number}"
        return ToolCallDelta(number, function.arguments or "", call_id, name, index)
