"""Two protocols joined: a caller's dialect and a target's dialect meet in the neutral types of `foundry/types/chat.py`.

A *caller dialect* reads a request as callers of its protocol write it and writes answers as they expect them; a *target
dialect* does the opposite for the protocol of a target. `Translated(caller, target)` is the leg of any such pair, so n + m
dialects serve n x m pairs. Where caller and target speak the same protocol, bytes pass through instead (`openai.py`,
`anthropic_through.py`, ...). What it does not know: any concrete protocol, I/O, money.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from foundry.codecs.base import BYTES_PER_TOKEN, Answer, Call, TargetFacts, Told, UpstreamRequest
from foundry.errors import FoundryError, UnsupportedParameter
from foundry.types.chat import (
    ChatAnswer,
    ChatEvent,
    ChatRequest,
    Counted,
    Ended,
    Failed,
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


class StreamWriter(Protocol):
    """Events of one answer to bytes on the caller's wire; one instance per stream."""

    def write(self, event: ChatEvent) -> bytes:
        """What this event means to the caller. Nothing of the tail: `Finished`, `Counted` and `Ended` are remembered for it.
        `Failed` is written as nothing: the lifecycle calls `failure`."""
        ...

    def tail(self) -> bytes:
        """What ends a whole stream: finish reason and usage where the protocol has them in its last events, end marker."""
        ...

    def failure(self, error: FoundryError, request_id: str) -> bytes:
        """The terminal event of a stream that failed after it had begun."""
        ...


class StreamReader(Protocol):
    """Bytes of a target's stream, cut anywhere, to events; one instance per stream."""

    def feed(self, data: bytes) -> Sequence[ChatEvent]:
        """Events that are complete now. `Counted` each time the target tells its counts. Raises UpstreamBroke when an event
        cannot be read."""
        ...

    def close(self) -> Sequence[ChatEvent]:
        """The target closed its answer: what was still pending, and `Ended` for wires that end by closing."""
        ...


class CallerDialect(Protocol):
    """A protocol as callers speak it."""

    def read_request(self, call: Call) -> ChatRequest:
        """The call in neutral terms. Members without a place there go to `others`; null members count as absent.
        Raises InvalidParameter."""
        ...

    def write_answer(self, answer: ChatAnswer, call: Call) -> bytes:
        """A whole answer's body."""
        ...

    def writer(self, call: Call) -> StreamWriter:
        """A fresh writer for one streamed answer."""
        ...


class TargetDialect(Protocol):
    """A protocol as targets speak it: a wire."""

    def write_request(self, request: ChatRequest, target: TargetFacts) -> UpstreamRequest:
        """The target's request. Raises UnsupportedParameter for what it has not (see `unsupported` and `carried`)."""
        ...

    def read_answer(self, body: bytes, content_type: str) -> ChatAnswer:
        """A whole answer. Raises UpstreamBroke when it cannot be read."""
        ...

    def streams(self, content_type: str) -> bool:
        """Whether an answer of this type is a stream."""
        ...

    def reader(self) -> StreamReader:
        """A fresh reader for one streamed answer."""
        ...

    def told(self, body: bytes) -> Told:
        """An error answer's words, whatever its shape."""
        ...


def unsupported(name: str, target: TargetFacts, why: str = "") -> UnsupportedParameter:
    """The error for a parameter that the target has not; `name` is the parameter as callers know it."""
    reason = f" ({why})" if why else ""
    return UnsupportedParameter(
        f"the target '{target.target_id}' does not support '{name}'{reason}: "
        "leave it out, or use a model whose target does",
        param=name,
    )


HINTS = frozenset({"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"})
"""Members that never change an answer: a target that has them gets them, any other serves without."""


def carried(request: ChatRequest, known: Collection[str], target: TargetFacts) -> dict[str, msgspec.Raw]:
    """The members of `request.others` to send, when the target has every one of them but hints. Raises UnsupportedParameter
    for the first that it has not."""
    sent: dict[str, msgspec.Raw] = {}
    for name, value in request.others.items():
        if name in known:
            sent[name] = value
        elif name not in HINTS:
            raise unsupported(name, target)
    return sent


def require_accepted(request: ChatRequest, target: TargetFacts) -> None:
    """What the model answers with an error, by its family's `refuses`, is refused before it is asked. Raises
    UnsupportedParameter."""
    for name in target.options.get("refuses", "").split(","):
        said = request.others.get(name) or getattr(request, name, None) if name else None
        if said is not None and said is not False:
            raise unsupported(name, target)


@dataclass(frozen=True, slots=True)
class Translated:
    """The leg of two protocols that differ."""

    caller: CallerDialect
    target: TargetDialect

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The target's request. Raises UnsupportedParameter or InvalidParameter."""
        return self.target.write_request(self.caller.read_request(call), target)

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """A whole answer in the caller's protocol. Raises UpstreamBroke."""
        answer = self.target.read_answer(body, content_type)
        return Answer(
            body=self.caller.write_answer(answer, call),
            counts=answer.counts,
            estimated_output_tokens=0 if answer.counts else estimated(answer),
        )

    def streams(self, content_type: str) -> bool:
        """Whether the target's answer is a stream."""
        return self.target.streams(content_type)

    def meter(self, call: Call) -> TranslatedMeter:
        """A fresh meter."""
        return TranslatedMeter(self.target.reader(), self.caller.writer(call))

    def told(self, body: bytes) -> Told:
        """The target's words."""
        return self.target.told(body)


class TranslatedMeter:
    """Meter of one translated stream: reads the target's events, counts, writes the caller's."""

    __slots__ = (
        "_bytes",
        "_events",
        "_first_counts",
        "_reader",
        "_running_counts",
        "_writer",
        "ended",
        "error",
        "started",
    )

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.started = False
        self.ended = False
        self.error: str | None = None
        self._reader = reader
        self._writer = writer
        self._first_counts: UsageCounts | None = None
        self._running_counts: UsageCounts | None = None
        self._events = 0
        self._bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Bytes from the target to bytes for the caller. Raises UpstreamBroke."""
        return self._pass(self._reader.feed(data))

    def close(self) -> bytes:
        """What the target's close still meant."""
        return self._pass(self._reader.close())

    def tail(self) -> bytes:
        """The caller's last events."""
        return self._writer.tail()

    def failure(self, error: FoundryError, request_id: str) -> bytes:
        """The caller's terminal event of a failed stream."""
        return self._writer.failure(error, request_id)

    @property
    def estimates(self) -> bool:
        """Until the target told its counts: the output."""
        return self._running_counts is None and self._first_counts is not None

    def counts(self) -> UsageCounts | None:
        """The latest counts. A target that told only its input so far (Anthropic tells its output at the end) has its output
        counted by us."""
        if self._running_counts is not None or self._first_counts is None:
            return self._running_counts
        output_tokens = max(self._first_counts.output_tokens, self.estimated_output_tokens())
        return msgspec.structs.replace(self._first_counts, output_tokens=output_tokens)

    def estimated_output_tokens(self) -> int:
        """One token per event that said something, or one per `BYTES_PER_TOKEN` where events are larger."""
        return max(self._events, -(-self._bytes // BYTES_PER_TOKEN))

    def _pass(self, events: Iterable[ChatEvent]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if self.ended or self.error is not None:
                break
            self._note(event)
            out.append(self._writer.write(event))
        return b"".join(out)

    def _note(self, event: ChatEvent) -> None:
        match event:
            case TextDelta(text=said) | RefusalDelta(text=said) | ReasoningDelta(text=said):
                self._said(said)
            case ToolCallDelta():
                self._said((event.name or "") + event.arguments)
            case Counted(counts=counts):
                self._running_counts = counts
            case Started(counts=counts):
                self._first_counts = counts
            case Failed(message=message):
                self.error = message
            case Ended():
                self.ended = True
            case _:
                pass

    def _said(self, said: str) -> None:
        if said:
            self.started = True
            self._events += 1
            self._bytes += len(said.encode())


def estimated(answer: ChatAnswer) -> int:
    """Bytes of all that was said over `BYTES_PER_TOKEN`."""
    size = 0
    for choice in answer.choices:
        for part in choice.parts:
            match part:
                case Text(text=said) | Reasoning(text=said) | Refusal(text=said):
                    size += len(said.encode())
                case ToolCall():
                    size += len(part.name.encode()) + len(part.arguments.encode())
                case _:
                    pass
    return -(-size // BYTES_PER_TOKEN)
