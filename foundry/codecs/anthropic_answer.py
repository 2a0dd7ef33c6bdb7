"""Neutral answers and events as Anthropic messages and their events for callers.

`message_delta` (stop reason and usage) and `message_stop` are the tail: they go out after the usage record is written.
What it does not know: requests, targets, I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from foundry.codecs.anthropic_errors import error_event
from foundry.codecs.base import Call
from foundry.codecs.members import is_json_object
from foundry.codecs.sse import named_event
from foundry.errors import FoundryError
from foundry.types.chat import (
    ChatAnswer,
    ChatEvent,
    Choice,
    Counted,
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

_STOP: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "pause": "pause_turn",
}
_NOTHING = UsageCounts()
_encoder = msgspec.json.Encoder()


def usage_of(counts: UsageCounts) -> dict[str, object]:
    """Anthropic's `usage`: its `input_tokens` leave out what was read from or written to a cache, ours do not."""
    usage: dict[str, object] = {
        "input_tokens": counts.input_tokens - counts.cached_input_tokens - counts.cache_write_tokens,
        "cache_creation_input_tokens": counts.cache_write_tokens,
        "cache_read_input_tokens": counts.cached_input_tokens,
        "output_tokens": counts.output_tokens,
    }
    if counts.reasoning_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": counts.reasoning_tokens}
    return usage


def stop_reason(reason: FinishReason | None, stop_sequence: str | None, *, called: bool) -> str:
    """Anthropic's `stop_reason`. Servers may say `stop` for a tool that had to be called."""
    if reason in (None, "stop"):
        return "tool_use" if called else "stop_sequence" if stop_sequence is not None else "end_turn"
    return _STOP[reason]


def message_id(target_id: str) -> str:
    """An id as callers of Anthropic know them."""
    return target_id if target_id.startswith("msg_") else f"msg_{target_id.removeprefix('chatcmpl-')}"


def write_answer(answer: ChatAnswer, call: Call) -> bytes:
    """A message."""
    choice = answer.choices[0] if answer.choices else Choice(0, (), "stop")
    called = any(isinstance(part, ToolCall) for part in choice.parts)
    return _encoder.encode(
        {
            "id": message_id(answer.id),
            "type": "message",
            "role": "assistant",
            "model": call.model,
            "content": list(_blocks(choice.parts)),
            "stop_reason": stop_reason(choice.finish_reason, choice.stop_sequence, called=called),
            "stop_sequence": choice.stop_sequence,
            "usage": usage_of(answer.counts or _NOTHING),
        }
    )


def _blocks(parts: Iterable[Part]) -> Iterator[dict[str, object]]:
    for part in parts:
        match part:
            case Text() | Refusal():
                yield {"type": "text", "text": part.text}
            case Reasoning(redacted_base64=str(data)):
                yield {"type": "redacted_thinking", "data": data}
            case Reasoning():
                yield {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
            case ToolCall():
                yield {"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part.arguments)}
            case _:
                pass  # answers hold nothing else


def _input(arguments: str) -> msgspec.Raw:
    """Arguments as an object: Anthropic knows no others. What a model wrote that is none is kept under one name."""
    if is_json_object(arguments):
        return msgspec.Raw(arguments.encode())
    return msgspec.Raw(_encoder.encode({"arguments": arguments} if arguments.strip() else {}))


class MessageWriter:
    """Writes one stream of events. Blocks follow one another; a piece of a tool call whose block is closed (no server is known
    to send one) still goes out under its block's index."""

    __slots__ = ("_call", "_calls", "_counts", "_finished", "_id", "_index", "_kind", "_started")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._id = message_id("")
        self._started = False
        self._counts: UsageCounts | None = None
        self._kind = ""  # of the open block: text, thinking, tool number; empty when none is open
        self._index = -1
        self._calls: dict[int, int] = {}  # tool call number to block
        self._finished: Finished | None = None

    def write(self, event: ChatEvent) -> bytes:
        """One event as Anthropic's."""
        match event:
            case Started():
                self._id, self._counts = message_id(event.id), event.counts
                return self._start()
            case Counted():
                self._counts = event.counts
                return b""
            case TextDelta() | RefusalDelta():
                return self._text(event.text)
            case ReasoningDelta():
                return self._thought(event)
            case ToolCallDelta():
                return self._tool(event)
            case Finished():
                self._finished = event
                return self._close()
            case _:
                return b""

    def tail(self) -> bytes:
        """`message_delta` with the stop reason and the usage, and `message_stop`."""
        head = self._start() + self._close()
        finished = self._finished or Finished("stop")
        delta = {
            "stop_reason": stop_reason(finished.reason, finished.stop_sequence, called=bool(self._calls)),
            "stop_sequence": finished.stop_sequence,
        }
        usage = usage_of(self._counts or _NOTHING)
        last = named_event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
        return head + last + named_event("message_stop", {"type": "message_stop"})

    def failure(self, error: FoundryError, request_id: str) -> bytes:
        """Anthropic's error event."""
        return error_event(error, request_id)

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        message = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._call.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_of(self._counts or _NOTHING),
        }
        start = named_event("message_start", {"type": "message_start", "message": message})
        return start + named_event("ping", {"type": "ping"})

    def _text(self, text: str) -> bytes:
        if not text:
            return b""
        opened = self._open("text", {"type": "text", "text": ""})
        return opened + self._delta(self._index, {"type": "text_delta", "text": text})

    def _thought(self, event: ReasoningDelta) -> bytes:
        if event.redacted_base64 is not None:
            opened = self._open("redacted", {"type": "redacted_thinking", "data": event.redacted_base64})
            return opened + self._close()
        out = self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        if event.text:
            out += self._delta(self._index, {"type": "thinking_delta", "thinking": event.text})
        if event.signature is not None:
            out += self._delta(self._index, {"type": "signature_delta", "signature": event.signature})
            out += self._close()
        return out

    def _tool(self, event: ToolCallDelta) -> bytes:
        out = b""
        if event.call not in self._calls:
            block = {"type": "tool_use", "id": event.id or "", "name": event.name or "", "input": {}}
            out = self._open(f"tool {event.call}", block)
            self._calls[event.call] = self._index
        if event.arguments:
            delta = {"type": "input_json_delta", "partial_json": event.arguments}
            out += self._delta(self._calls[event.call], delta)
        return out

    def _open(self, kind: str, block: Mapping[str, object]) -> bytes:
        if self._kind == kind:
            return b""
        head = self._start() + self._close()
        self._kind = kind
        self._index += 1
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        return head + named_event("content_block_start", event)

    def _delta(self, index: int, delta: Mapping[str, object]) -> bytes:
        return named_event(
            "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
        )

    def _close(self) -> bytes:
        if not self._kind:
            return b""
        self._kind = ""
        return named_event("content_block_stop", {"type": "content_block_stop", "index": self._index})
