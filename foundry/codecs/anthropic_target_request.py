"""Neutral requests as Anthropic Messages requests.

Systems' and developers' messages become `system`; results of tools go into the user's turn; turns of one role are joined.
Facts in `TargetFacts.options`: `default_max_tokens` (Anthropic requires a bound; default 4096), `thinking` ("adaptive", the
default, or "budget" for models before adaptive thinking), `anthropic_version`, `anthropic_beta`.
What it does not know: callers' protocols, answers, I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from foundry.codecs.base import TargetFacts, UpstreamRequest
from foundry.codecs.members import is_json_object
from foundry.codecs.translate import carried, unsupported
from foundry.errors import InvalidParameter
from foundry.types.chat import (
    ChatRequest,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    ReasoningEffort,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

PATH = "/v1/messages"
VERSION = "2023-06-01"
MEMBERS = frozenset({"container", "inference_geo", "mcp_servers", "speed"})
"""Members of Anthropic's request that need no translation."""
DEFAULT_MAX_TOKENS = 4_096
MIN_BUDGET_TOKENS = 1_024
"""Anthropic's least budget of thought."""
_BUDGETS: dict[ReasoningEffort, int] = {
    "minimal": MIN_BUDGET_TOKENS,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 65_536,
}
"""Tokens of thought for an effort, on models that take a budget only: ours, as Anthropic names none."""
_MARK = {"type": "ephemeral"}
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_encoder = msgspec.json.Encoder()


def write_request(request: ChatRequest, target: TargetFacts) -> UpstreamRequest:
    """The target's request. Raises UnsupportedParameter or InvalidParameter."""
    _require_served(request, target)
    systems = [message for message in request.messages if message.role in ("system", "developer")]
    body: dict[str, object] = {
        "model": target.model,
        "messages": list(_turns(request.messages, target)),
        **_thinking(request, target),
        **_sampling(request),
        **_tools(request),
        **carried(request, MEMBERS, target),
    }
    if systems:
        body["system"] = [
            _text(part) for message in systems for part in message.parts if isinstance(part, Text)
        ]
    if request.output_format is not None and request.output_format.kind == "json_schema":
        config = body.get("output_config")
        schema = {"format": {"type": "json_schema", "schema": request.output_format.schema}}
        body["output_config"] = {**config, **schema} if isinstance(config, dict) else schema
    return UpstreamRequest(PATH, _encoder.encode(body), headers=headers(target))


def headers(target: TargetFacts) -> dict[str, str]:
    """The protocol's own headers."""
    named = {"anthropic-version": target.options.get("anthropic_version", VERSION)}
    if beta := target.options.get("anthropic_beta"):
        named["anthropic-beta"] = beta
    return named


def _require_served(request: ChatRequest, target: TargetFacts) -> None:
    has_json_object = request.output_format is not None and request.output_format.kind == "json_object"
    asked = {
        "n": request.n > 1,
        "seed": request.seed is not None,
        "logprobs": request.logprobs,
        "top_logprobs": bool(request.top_logprobs),
        "presence_penalty": bool(request.presence_penalty),
        "frequency_penalty": bool(request.frequency_penalty),
        "response_format": has_json_object,
    }
    for name, is_asked in asked.items():
        if is_asked:
            why = "it has 'json_schema', not 'json_object'" if name == "response_format" else ""
            raise unsupported(name, target, why)


def _sampling(request: ChatRequest) -> dict[str, object]:
    body: dict[str, object] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop_sequences": list(request.stop) or None,
        "metadata": {"user_id": request.user} if request.user else None,
        "stream": request.stream or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def _thinking(request: ChatRequest, target: TargetFacts) -> dict[str, object]:
    """Thought and the bound on the answer, which holds for both together."""
    default = int(target.options.get("default_max_tokens", DEFAULT_MAX_TOKENS))
    bound = request.max_output_tokens or default
    effort, budget = request.reasoning_effort, request.reasoning_budget_tokens
    if effort == "none":
        return {"max_tokens": bound, "thinking": {"type": "disabled"}}
    if effort is not None and target.options.get("thinking", "adaptive") == "adaptive":
        written = "low" if effort == "minimal" else effort
        return {"max_tokens": bound, "thinking": {"type": "adaptive"}, "output_config": {"effort": written}}
    if effort is not None and budget is None:
        budget = _BUDGETS[effort]
        if request.max_output_tokens is not None:
            budget = max(MIN_BUDGET_TOKENS, min(budget, request.max_output_tokens // 2))
    if budget is None:
        return {"max_tokens": bound}
    if request.max_output_tokens is None:
        bound = budget + default
    if budget >= bound:
        raise InvalidParameter(
            f"the target '{target.target_id}' needs more than {budget} tokens of output to think: raise 'max_tokens' from "
            f"{bound} or lower the reasoning effort",
            param="max_tokens",
        )
    return {"max_tokens": bound, "thinking": {"type": "enabled", "budget_tokens": budget}}


def _tools(request: ChatRequest) -> dict[str, object]:
    if not request.tools:
        return {}
    body: dict[str, object] = {"tools": [_tool(tool) for tool in request.tools]}
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    if choice is None and parallel is not False:
        return body
    mode = choice.mode if choice else "auto"
    written: dict[str, object] = {"type": {"required": "any", "named": "tool"}.get(mode, mode)}
    if choice is not None and choice.name is not None:
        written["name"] = choice.name
    if parallel is False and mode != "none":
        written["disable_parallel_tool_use"] = True
    return {**body, "tool_choice": written}


def _tool(tool: Tool) -> dict[str, object]:
    written: dict[str, object] = {"name": tool.name, "input_schema": tool.parameters}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.strict is not None:
        written["strict"] = tool.strict
    if tool.cache_breakpoint:
        written["cache_control"] = _MARK
    return written


def _turns(messages: Iterable[Message], target: TargetFacts) -> Iterator[dict[str, object]]:
    """Turns of the user and of the assistant, one after the other."""
    role, content = "", list[dict[str, object]]()
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        speaker = "assistant" if message.role == "assistant" else "user"
        if speaker != role and content:
            yield {"role": role, "content": content}
            content = []
        role = speaker
        content += _blocks(message.parts, target)
    if content:
        yield {"role": role, "content": content}


def _blocks(parts: Iterable[Part], target: TargetFacts) -> Iterator[dict[str, object]]:
    for part in parts:
        match part:
            case Text() | Refusal():
                if part.text:  # empty text is refused
                    yield _text(part)
            case Image():
                yield _image(part)
            case File():
                yield _document(part, target)
            case Reasoning():
                yield from _thought(part)
            case ToolCall():
                yield _call(part)
            case ToolResult():
                yield _result(part, target)
            case _:
                raise unsupported("messages", target, "sound in a turn")


def _text(part: Text | Refusal) -> dict[str, object]:
    block: dict[str, object] = {"type": "text", "text": part.text}
    if isinstance(part, Text) and part.cache_breakpoint:
        block["cache_control"] = _MARK
    return block


def _image(image: Image) -> dict[str, object]:
    if image.data_base64 is not None:
        media_type = image.media_type or "image/png"
        return {
            "type": "image",
            "source": {"type": "base64", "media_type": media_type, "data": image.data_base64},
        }
    if image.file_id is not None:
        return {"type": "image", "source": {"type": "file", "file_id": image.file_id}}
    return {"type": "image", "source": {"type": "url", "url": image.url}}


def _document(file: File, target: TargetFacts) -> dict[str, object]:
    if file.data_base64 is not None:
        media_type = file.media_type or "application/pdf"
        if media_type != "application/pdf":
            raise unsupported("messages", target, f"a document of the type '{media_type}'")
        source = {"type": "base64", "media_type": media_type, "data": file.data_base64}
    elif file.file_id is not None:
        source = {"type": "file", "file_id": file.file_id}
    else:
        source = {"type": "url", "url": file.url or ""}
    written: dict[str, object] = {"type": "document", "source": source}
    if file.filename is not None:
        written["title"] = file.filename
    return written


def _thought(thought: Reasoning) -> Iterator[dict[str, object]]:
    """Thoughts go back only as Anthropic signed them: those of other models are refused."""
    if thought.redacted_base64 is not None:
        yield {"type": "redacted_thinking", "data": thought.redacted_base64}
    elif thought.signature is not None:
        yield {"type": "thinking", "thinking": thought.text, "signature": thought.signature}


def _call(call: ToolCall) -> dict[str, object]:
    arguments = call.arguments.strip() or "{}"
    if not is_json_object(arguments):
        param = "messages"
        raise InvalidParameter(
            f"the arguments of the tool call '{call.id}' are not a JSON object", param=param
        )
    return {
        "type": "tool_use",
        "id": _id(call.id),
        "name": call.name,
        "input": msgspec.Raw(arguments.encode()),
    }


def _id(call_id: str) -> str:
    """An id in the letters that Anthropic allows."""
    return _NOT_IN_ID.sub("_", call_id)


def _result(result: ToolResult, target: TargetFacts) -> dict[str, object]:
    written: dict[str, object] = {"type": "tool_result", "tool_use_id": _id(result.call_id)}
    if content := list(_blocks(result.parts, target)):
        written["content"] = content
    if result.is_error:
        written["is_error"] = True
    return written
