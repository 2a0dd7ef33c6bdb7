"""Neutral answers and events as OpenAI chat completions and chunks for callers.

Thoughts go out as `reasoning_content`; those that their maker wants back with a signature also as `reasoning_details`.
What it does not know: requests, targets, I/O.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from foundry.codecs.base import Call
from foundry.codecs.chat_request import ReasoningDetail
from foundry.codecs.openai_errors import error_event
from foundry.codecs.sse import data_event
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

_DONE = b"data: [DONE]\n\n"
_encoder = msgspec.json.Encoder()


def usage_of(counts: UsageCounts) -> dict[str, object]:
    """OpenAI's `usage` object."""
    return {
        "prompt_tokens": counts.input_tokens,
        "completion_tokens": counts.output_tokens,
        "total_tokens": counts.input_tokens + counts.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": counts.cached_input_tokens,
            "cache_write_tokens": counts.cache_write_tokens,
            "audio_tokens": counts.audio_input_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning_tokens,
            "audio_tokens": counts.audio_output_tokens,
        },
    }


def finish_reason(reason: FinishReason | None) -> str:
    """OpenAI's `finish_reason`: a paused turn is one that stopped."""
    return "stop" if reason in (None, "pause") else reason


def write_answer(answer: ChatAnswer, call: Call) -> bytes:
    """A chat completion."""
    body: dict[str, object] = {
        "id": chat_id(answer.id),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "choices": [_choice(choice) for choice in answer.choices],
    }
    if answer.counts is not None:
        body["usage"] = usage_of(answer.counts)
    return _encoder.encode(body)


def chat_id(target_id: str) -> str:
    """An id as chat callers know them."""
    return target_id if target_id.startswith("chatcmpl-") else f"chatcmpl-{target_id}"


def _choice(choice: Choice) -> dict[str, object]:
    return {
        "index": choice.index,
        "message": _message(choice.parts),
        "logprobs": choice.logprobs,
        "finish_reason": finish_reason(choice.finish_reason),
    }


def _message(parts: Iterable[Part]) -> dict[str, object]:
    text: list[str] = []
    refusal: list[str] = []
    thoughts: list[Reasoning] = []
    calls: list[dict[str, object]] = []
    for part in parts:
        match part:
            case Text():
                text.append(part.text)
            case Refusal():
                refusal.append(part.text)
            case Reasoning():
                thoughts.append(part)
            case ToolCall():
                calls.append(_call(part))
            case _:
                pass  # answers hold nothing else
    message: dict[str, object] = {
        "role": "assistant",
        "content": "".join(text) if text else None,
        "refusal": "".join(refusal) or None,
    }
    if thoughts:
        message["reasoning_content"] = "".join(thought.text for thought in thoughts)
        wanted = [thought for thought in thoughts if thought.signature or thought.redacted_base64]
        details = [detail_of(thought, index) for index, thought in enumerate(wanted)]
        if details:
            message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    return message


def _call(call: ToolCall) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def detail_of(thought: Reasoning, index: int) -> ReasoningDetail:
    """A thought for `reasoning_details`."""
    if thought.redacted_base64 is not None:
        return ReasoningDetail("reasoning.encrypted", data=thought.redacted_base64, index=index)
    return ReasoningDetail("reasoning.text", text=thought.text, signature=thought.signature, index=index)


class ChatWriter:
    """Writes one stream of chunks."""

    __slots__ = ("_call", "_counts", "_created", "_details", "_id", "_roles", "_thoughts")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._id = chat_id("")
        self._created = int(time.time())
        self._roles: set[int] = set()
        self._thoughts: dict[int, list[str]] = {}
        self._details: dict[int, int] = {}  # by choice: how many details went out
        self._counts: UsageCounts | None = None

    def write(self, event: ChatEvent) -> bytes:
        """One event as chunks."""
        match event:
            case Started():
                self._id, self._counts = chat_id(event.id), event.counts
                return b""
            case Counted():
                self._counts = event.counts
                return b""
            case TextDelta():
                return self._chunk(event.index, {"content": event.text}, logprobs=event.logprobs)
            case RefusalDelta():
                return self._chunk(event.index, {"refusal": event.text})
            case ReasoningDelta():
                return self._chunk(event.index, self._thought(event))
            case ToolCallDelta():
                return self._chunk(event.index, {"tool_calls": [_call_delta(event)]})
            case Finished():
                return self._chunk(event.index, {}, finish=finish_reason(event.reason))
            case _:
                return b""

    def tail(self) -> bytes:
        """The usage chunk, if the caller asked for it, and the end marker."""
        if not self._call.wants_usage or self._counts is None:
            return _DONE
        return data_event({**self._head(), "choices": [], "usage": usage_of(self._counts)}) + _DONE

    def failure(self, error: FoundryError, request_id: str) -> bytes:
        """OpenAI's error object as the last event."""
        return error_event(error, request_id)

    def _head(self) -> dict[str, object]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._call.model,
        }

    def _chunk(
        self,
        index: int,
        delta: dict[str, object],
        *,
        finish: str | None = None,
        logprobs: msgspec.Raw | None = None,
    ) -> bytes:
        if index not in self._roles:
            self._roles.add(index)
            delta = {"role": "assistant", "content": "", **delta}
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        chunk = {**self._head(), "choices": [choice]}
        if self._call.wants_running_usage and self._counts is not None:
            chunk["usage"] = usage_of(self._counts)
        return data_event(chunk)

    def _thought(self, event: ReasoningDelta) -> dict[str, object]:
        """Text as it comes; with the signature, the whole thought again, as it has to come back."""
        delta: dict[str, object] = {"reasoning_content": event.text} if event.text else {}
        so_far = self._thoughts.setdefault(event.index, [])
        so_far.append(event.text)
        if event.signature is None and event.redacted_base64 is None:
            return delta
        whole = Reasoning("".join(so_far), event.signature, event.redacted_base64)
        if event.redacted_base64 is None:
            so_far.clear()
        index = self._details.get(event.index, 0)
        self._details[event.index] = index + 1
        return {**delta, "reasoning_details": [detail_of(whole, index)]}


def _call_delta(event: ToolCallDelta) -> dict[str, object]:
    function: dict[str, object] = {"arguments": event.arguments}
    if event.name is not None:
        function["name"] = event.name
    delta: dict[str, object] = {"index": event.call, "function": function}
    if event.id is not None:
        delta = {**delta, "id": event.id, "type": "function"}
    return delta
