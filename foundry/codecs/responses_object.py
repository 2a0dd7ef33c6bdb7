"""The Responses API's response object, its items and its usage, made of neutral answers.

A response echoes what was asked, defaults included, as OpenAI's does. What it does not know: streams, targets, I/O.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal
from uuid import uuid4

import msgspec

from foundry.codecs.base import Call
from foundry.codecs.members import NULL
from foundry.codecs.responses_thoughts import sealed
from foundry.errors import FoundryError
from foundry.types.chat import (
    ChatAnswer,
    Choice,
    FinishReason,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
)
from foundry.types.usage import UsageCounts

ItemStatus = Literal["in_progress", "completed", "incomplete"]
Item = dict[str, object]
_ECHOED: dict[str, object] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
"""What every response tells, with OpenAI's defaults."""
_ECHOED_IF_SAID = ("conversation", "prompt_cache_key", "safety_identifier", "service_tier", "user")
_INCOMPLETE: dict[FinishReason, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
_RATE_LIMITED = 429
_encoder = msgspec.json.Encoder()


class _Logprobs(msgspec.Struct):
    content: list[msgspec.Raw] | None = None


_logprobs = msgspec.json.Decoder(_Logprobs)


def response_id(call: Call, target_id: str) -> str:
    """The id of a response."""
    own = target_id.removeprefix("chatcmpl-").removeprefix("msg_")
    return call.answer_id or f"resp_{own or uuid4().hex}"


def usage_of(counts: UsageCounts) -> dict[str, object]:
    """The Responses API's `usage`."""
    return {
        "input_tokens": counts.input_tokens,
        "input_tokens_details": {
            "cached_tokens": counts.cached_input_tokens,
            "cache_write_tokens": counts.cache_write_tokens,
        },
        "output_tokens": counts.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.input_tokens + counts.output_tokens,
    }


def response(
    call: Call,
    identity: str,
    created_at: int,
    *,
    status: str,
    output: Sequence[Item] = (),
    counts: UsageCounts | None = None,
    reason: FinishReason | None = None,
    error: dict[str, object] | None = None,
) -> dict[str, object]:
    """A response object."""
    why = _INCOMPLETE.get(reason) if reason is not None else None
    said = {name: value for name, value in call.fields.items() if value != NULL}
    return {
        "id": identity,
        "object": "response",
        "created_at": created_at,
        "completed_at": int(time.time()) if status == "completed" else None,
        "status": status,
        "error": error,
        "incomplete_details": {"reason": why} if status == "incomplete" else None,
        "model": call.model,
        "output": output,
        "usage": usage_of(counts) if counts is not None else None,
        **{name: said.get(name, default) for name, default in _ECHOED.items()},
        **{name: said[name] for name in _ECHOED_IF_SAID if name in said},
    }


def failure_of(error: FoundryError, request_id: str) -> dict[str, object]:
    """The `error` of a response that failed; OpenAI knows few codes."""
    code = "rate_limit_exceeded" if error.status == _RATE_LIMITED else "server_error"
    return {"code": code, "message": f"{error.message} (request {request_id})"}


def final_status(reason: FinishReason | None) -> str:
    """`completed`, or `incomplete` for an answer that was cut or filtered."""
    return "incomplete" if reason in _INCOMPLETE else "completed"


def write_answer(answer: ChatAnswer, call: Call) -> bytes:
    """A whole response."""
    choice = answer.choices[0] if answer.choices else Choice(0, (), "stop")
    identity, status = response_id(call, answer.id), final_status(choice.finish_reason)
    output = list(_items(choice, identity, status))
    body = response(
        call,
        identity,
        int(time.time()),
        status=status,
        output=output,
        counts=answer.counts,
        reason=choice.finish_reason,
    )
    return _encoder.encode(body)


def item_id(identity: str, kind: str, position: int) -> str:
    """The id of the item at this place of a response."""
    return f"{kind}_{identity.removeprefix('resp_')}_{position}"


def _items(choice: Choice, identity: str, status: str) -> Iterator[Item]:
    parts = [part for part in choice.parts if isinstance(part, Text | Refusal | Reasoning | ToolCall)]
    for position, part in enumerate(parts):
        is_last = position == len(parts) - 1
        state: ItemStatus = "incomplete" if is_last and status == "incomplete" else "completed"
        yield _item(part, identity, position, state, choice.logprobs)


def _item(part: Part, identity: str, position: int, state: ItemStatus, logprobs: msgspec.Raw | None) -> Item:
    match part:
        case Reasoning():
            return reasoning_item(item_id(identity, "rs", position), part, state)
        case ToolCall():
            return call_item(item_id(identity, "fc", position), part, state)
        case Text():
            content = text_part(part.text, tokens_of(logprobs))
        case Refusal():
            content = refusal_part(part.text)
        case _:
            content = text_part("")
    return message_item(item_id(identity, "msg", position), [content], state)


def tokens_of(logprobs: msgspec.Raw | None) -> list[msgspec.Raw]:
    """The tokens in a chat's `logprobs`; their form is the same here."""
    return (_logprobs.decode(logprobs).content or []) if logprobs is not None else []


def text_part(text: str, tokens: Iterable[msgspec.Raw] = ()) -> Item:
    """A piece of a message that was said."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(tokens)}


def refusal_part(text: str) -> Item:
    """A piece of a message that refuses."""
    return {"type": "refusal", "refusal": text}


def message_item(identity: str, content: list[Item], status: ItemStatus) -> Item:
    """What the assistant said."""
    return {"id": identity, "type": "message", "role": "assistant", "status": status, "content": content}


def reasoning_item(identity: str, thought: Reasoning, status: ItemStatus) -> Item:
    """What the assistant thought, with what its maker wants back."""
    content = [{"type": "reasoning_text", "text": thought.text}] if thought.text else []
    item: Item = {"id": identity, "type": "reasoning", "summary": [], "content": content, "status": status}
    encrypted_content = sealed(thought)
    return {**item, "encrypted_content": encrypted_content} if encrypted_content is not None else item


def call_item(identity: str, call: ToolCall, status: ItemStatus) -> Item:
    """A call of a function."""
    return {
        "id": identity,
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": status,
    }
