"""Neutral events as the Responses API's stream of events.

Every event has the next `sequence_number`. What was said and thought is closed when something else begins; calls of functions
stay open until the choice is finished, as servers may write several at once. The last event (`response.completed` or
`response.incomplete`, with the whole response) is the tail. What it does not know: requests, targets, I/O.
"""

from __future__ import annotations

import time

import msgspec

from foundry.codecs.base import Call
from foundry.codecs.responses_object import (
    Item,
    ItemStatus,
    call_item,
    failure_of,
    final_status,
    item_id,
    message_item,
    reasoning_item,
    refusal_part,
    response,
    response_id,
    text_part,
    tokens_of,
)
from foundry.codecs.sse import named_event
from foundry.errors import FoundryError, GuardrailBlocked, GuardrailUnavailable
from foundry.types.chat import (
    ChatEvent,
    Counted,
    Finished,
    FinishReason,
    Reasoning,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from foundry.types.usage import UsageCounts


class _Writing:
    """One item that is being written."""

    __slots__ = (
        "call_id",
        "encrypted",
        "identity",
        "kind",
        "name",
        "position",
        "redacted",
        "signature",
        "text",
        "tokens",
    )

    def __init__(self, kind: str, position: int, identity: str, *, call_id: str = "", name: str = "") -> None:
        self.kind = kind  # output_text, refusal, reasoning_text, function_call
        self.position = position
        self.identity = identity
        self.call_id = call_id
        self.name = name
        self.text: list[str] = []
        self.tokens: list[msgspec.Raw] = []
        self.signature: str | None = None
        self.redacted: str | None = None

    def place(self) -> dict[str, object]:
        """Members that every event about it has."""
        return {"item_id": self.identity, "output_index": self.position}

    def part(self) -> Item:
        """Its one piece of content, so far."""
        said = "".join(self.text)
        if self.kind == "output_text":
            return text_part(said, self.tokens)
        return refusal_part(said) if self.kind == "refusal" else {"type": "reasoning_text", "text": said}

    def item(self, status: ItemStatus) -> Item:
        """The item so far."""
        said = "".join(self.text)
        if self.kind == "function_call":
            return call_item(self.identity, ToolCall(self.call_id, self.name, said), status)
        if self.kind == "reasoning_text":
            return reasoning_item(self.identity, Reasoning(said, self.signature, self.redacted), status)
        content = [self.part()] if status != "in_progress" else []
        return message_item(self.identity, content, status)


class ResponseWriter:
    """Writes one stream of events."""

    __slots__ = (
        "_call", "_calls", "_counts", "_created_at", "_id", "_items", "_number", "_open", "_positions", "_reason", "_started",
    )  # fmt: skip

    def __init__(self, call: Call) -> None:
        self._call = call
        self._id = ""
        self._created_at = int(time.time())
        self._started = False
        self._number = 0
        self._counts: UsageCounts | None = None
        self._reason: FinishReason | None = None
        self._open: _Writing | None = None  # what is being said or thought
        self._calls: dict[int, _Writing] = {}  # calls of functions that are open, by their number
        self._items: dict[int, Item] = {}  # what is finished, by place
        self._positions = 0

    def write(self, event: ChatEvent) -> bytes:
        """One event as the Responses API's."""
        match event:
            case Started():
                self._counts = event.counts
                return self._start(event.id)
            case Counted():
                self._counts = event.counts
                return b""
            case TextDelta():
                return self._said("output_text", event.text, tokens_of(event.logprobs))
            case RefusalDelta():
                return self._said("refusal", event.text, [])
            case ReasoningDelta():
                return self._thought(event)
            case ToolCallDelta():
                return self._called(event)
            case Finished():
                self._reason = event.reason
                return self._close_all()
            case _:
                return b""

    def tail(self) -> bytes:
        """The last event, with the whole response."""
        head, status = self._start("") + self._close_all(), final_status(self._reason)
        return head + self._event(f"response.{status}", response=self._response(status))

    def failure(self, error: FoundryError, request_id: str) -> bytes:
        """`response.failed`, with what was said so far; with nothing of it where a guard refused what was said."""
        head = self._start("")
        if isinstance(error, GuardrailBlocked | GuardrailUnavailable):
            self._items.clear()
        else:
            head += self._close_all("incomplete")
        told = failure_of(error, request_id)
        return head + self._event("response.failed", response=self._response("failed", told))

    def _event(self, kind: str, **members: object) -> bytes:
        number = self._number
        self._number += 1
        return named_event(kind, {"type": kind, "sequence_number": number, **members})

    def _response(self, status: str, error: dict[str, object] | None = None) -> dict[str, object]:
        return response(
            self._call,
            self._id,
            self._created_at,
            status=status,
            output=[self._items[position] for position in sorted(self._items)],
            counts=self._counts if status != "in_progress" else None,
            reason=self._reason,
            error=error,
        )

    def _start(self, target_id: str) -> bytes:
        if self._started:
            return b""
        self._started = True
        self._id = response_id(self._call, target_id)
        begun = self._response("in_progress")
        return self._event("response.created", response=begun) + self._event(
            "response.in_progress", response=begun
        )

    def _begin(self, kind: str, prefix: str, *, call_id: str = "", name: str = "") -> tuple[_Writing, bytes]:
        head = self._start("")
        position = self._positions
        self._positions += 1
        writing = _Writing(kind, position, item_id(self._id, prefix, position), call_id=call_id, name=name)
        added = self._event(
            "response.output_item.added", output_index=position, item=writing.item("in_progress")
        )
        return writing, head + added

    def _opened(self, kind: str, prefix: str) -> tuple[_Writing, bytes]:
        if self._open is not None and self._open.kind == kind:
            return self._open, b""
        closed = self._close("completed")
        writing, begun = self._begin(kind, prefix)
        self._open = writing
        part = self._event(
            "response.content_part.added", **writing.place(), content_index=0, part=writing.part()
        )
        return writing, closed + begun + part

    def _said(self, kind: str, text: str, tokens: list[msgspec.Raw]) -> bytes:
        if not text and not tokens:
            return b""
        writing, head = self._opened(kind, "msg")
        writing.text.append(text)
        writing.tokens += tokens
        place = {**writing.place(), "content_index": 0, "delta": text}
        if kind == "refusal":
            return head + self._event("response.refusal.delta", **place)
        return head + self._event("response.output_text.delta", **place, logprobs=tokens)

    def _thought(self, event: ReasoningDelta) -> bytes:
        writing, out = self._opened("reasoning_text", "rs")
        if event.text:
            writing.text.append(event.text)
            place = {**writing.place(), "content_index": 0, "delta": event.text}
            out += self._event("response.reasoning_text.delta", **place)
        if event.signature is not None or event.redacted_base64 is not None:
            writing.signature, writing.redacted = event.signature, event.redacted_base64
            out += self._close("completed")
        return out

    def _called(self, event: ToolCallDelta) -> bytes:
        out = self._close("completed")
        writing = self._calls.get(event.call)
        if writing is None:
            writing, begun = self._begin("function_call", "fc", call_id=event.id or "", name=event.name or "")
            self._calls[event.call] = writing
            out += begun
        if event.arguments:
            writing.text.append(event.arguments)
            place = {**writing.place(), "delta": event.arguments}
            out += self._event("response.function_call_arguments.delta", **place)
        return out

    def _close_all(self, last: ItemStatus | None = None) -> bytes:
        status: ItemStatus = last or (
            "incomplete" if final_status(self._reason) == "incomplete" else "completed"
        )
        out = self._close(status)
        for writing in self._calls.values():
            arguments = "".join(writing.text)
            done = "response.function_call_arguments.done"
            out += self._event(done, **writing.place(), arguments=arguments, name=writing.name)
            out += self._done(writing, status)
        self._calls.clear()
        return out

    def _close(self, status: ItemStatus) -> bytes:
        writing, self._open = self._open, None
        if writing is None:
            return b""
        place, part = {**writing.place(), "content_index": 0}, writing.part()
        said = "".join(writing.text)
        match writing.kind:
            case "output_text":
                out = self._event("response.output_text.done", **place, text=said, logprobs=writing.tokens)
            case "refusal":
                out = self._event("response.refusal.done", **place, refusal=said)
            case _:
                out = self._event("response.reasoning_text.done", **place, text=said)
        out += self._event("response.content_part.done", **place, part=part)
        return out + self._done(writing, status)

    def _done(self, writing: _Writing, status: ItemStatus) -> bytes:
        item = self._items[writing.position] = writing.item(status)
        return self._event("response.output_item.done", output_index=writing.position, item=item)
