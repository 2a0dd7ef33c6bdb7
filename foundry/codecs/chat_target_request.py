"""Neutral requests as chat completion requests for own engines and OpenAI-compatible vendors.

What differs between vendors is in `TargetFacts.options`: `max_tokens_field` (default "max_tokens"; OpenAI and Azure want
"max_completion_tokens"), `reasoning_field` (the member in which assistants' thoughts go back; default "reasoning" on own
engines, none elsewhere), `prefill_field` ("prefix" at Mistral and DeepSeek), `top_k` ("yes" where the vendor has it),
`reasoning_effort` ("no" where it is refused), `stream_usage` ("no" where `stream_options` is refused).
What it does not know: callers' protocols, answers, I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from foundry.codecs import media
from foundry.codecs.base import TargetFacts, UpstreamRequest
from foundry.codecs.translate import carried, unsupported
from foundry.types.chat import (
    Audio,
    ChatRequest,
    File,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

PATH = "/v1/chat/completions"
COUNT_PATH = "/tokenize"
"""vLLM's; it takes a chat and answers with its tokens."""
VENDOR_MEMBERS = frozenset(
    {
        "logit_bias", "metadata", "modalities", "prediction", "prompt_cache_key", "prompt_cache_retention", "service_tier",
        "store", "verbosity", "audio", "web_search_options",
    }
)  # fmt: skip
"""Members of OpenAI's own request that need no translation."""
ENGINE_MEMBERS = frozenset(
    {
        "allowed_token_ids", "bad_words", "cache_salt", "chat_template_kwargs", "ignore_eos", "include_reasoning",
        "include_stop_str_in_output", "length_penalty", "logit_bias", "min_p", "min_tokens", "mm_processor_kwargs", "priority",
        "repetition_penalty", "skip_special_tokens", "spaces_between_special_tokens", "stop_token_ids", "structured_outputs",
        "thinking_token_budget", "truncate_prompt_tokens", "vllm_xargs",
    }
)  # fmt: skip
"""Members that vLLM adds to OpenAI's request."""
_LOW_BUDGET_TOKENS, _MEDIUM_BUDGET_TOKENS = 4_096, 16_384
"""Up to the first a budget of thought is a low effort, up to the second a medium one."""
_encoder = msgspec.json.Encoder()


def write_request(request: ChatRequest, target: TargetFacts) -> UpstreamRequest:
    """The target's request. Raises UnsupportedParameter."""
    body: dict[str, object] = {
        "model": target.model,
        "messages": _prefilled(list(write_messages(request, target)), request, target),
        **_sampling(request, target),
        **_thinking(request, target),
        **_tools(request),
        **_prefill(request, target),
        **carried(request, ENGINE_MEMBERS if target.running_usage else VENDOR_MEMBERS, target),
    }
    if request.output_format is not None:
        body["response_format"] = _format(request.output_format)
    if request.user is not None:
        body["user"] = request.user
    if request.stream:
        body |= _streaming(target)
    return UpstreamRequest(PATH, _encoder.encode(body))


def write_count_request(request: ChatRequest, target: TargetFacts) -> UpstreamRequest:
    """A request for the number of tokens that an own engine would render this request to. Raises UnsupportedParameter."""
    body: dict[str, object] = {
        "model": target.model,
        "messages": list(write_messages(request, target)),
        **_prefill(request, target),
        **carried(request, ENGINE_MEMBERS, target),
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.reasoning_effort is not None:  # what the chat endpoint tells the template of the effort
        effort = request.reasoning_effort
        own = msgspec.json.decode(request.others.get("chat_template_kwargs", b"{}"))
        body["chat_template_kwargs"] = {"reasoning_effort": effort, "enable_thinking": effort != "none"} | own
    return UpstreamRequest(COUNT_PATH, _encoder.encode(body))


def _sampling(request: ChatRequest, target: TargetFacts) -> dict[str, object]:
    if request.top_k is not None and not target.running_usage and target.options.get("top_k") != "yes":
        raise unsupported("top_k", target)
    body: dict[str, object] = {
        target.options.get("max_tokens_field", "max_tokens"): request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop": list(request.stop) or None,
        "n": request.n if request.n > 1 else None,
        "seed": request.seed,
        "logprobs": request.logprobs or None,
        "top_logprobs": request.top_logprobs,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
    }
    return {name: value for name, value in body.items() if value is not None}


def _thinking(request: ChatRequest, target: TargetFacts) -> dict[str, object]:
    """The effort; on own engines a budget stays one, elsewhere it becomes the effort nearest to it."""
    effort, budget = request.reasoning_effort, request.reasoning_budget_tokens
    if effort is None and budget is None:
        return {}
    if target.running_usage:
        told: dict[str, object] = {"reasoning_effort": effort, "thinking_token_budget": budget}
        return {name: value for name, value in told.items() if value is not None}
    if target.options.get("reasoning_effort") == "no":
        raise unsupported("reasoning_effort", target)
    if effort is None and budget is not None:
        low, medium = budget <= _LOW_BUDGET_TOKENS, budget <= _MEDIUM_BUDGET_TOKENS
        effort = "low" if low else "medium" if medium else "high"
    return {"reasoning_effort": "xhigh" if effort == "max" else effort}


def _tools(request: ChatRequest) -> dict[str, object]:
    if not request.tools:
        return {}
    body: dict[str, object] = {"tools": [_tool(tool) for tool in request.tools]}
    if request.tool_choice is not None:
        body["tool_choice"] = _choice(request.tool_choice)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def _tool(tool: Tool) -> dict[str, object]:
    function: dict[str, object] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> object:
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode


def _format(wanted: OutputFormat) -> dict[str, object]:
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    schema: dict[str, object] = {"name": wanted.name, "schema": wanted.schema}
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": schema}


def _prefill(request: ChatRequest, target: TargetFacts) -> dict[str, object]:
    if not request.prefill:
        return {}
    if target.running_usage:
        return {"continue_final_message": True, "add_generation_prompt": False}
    if "prefill_field" not in target.options:
        raise unsupported("messages", target, "it does not go on from a last message of the assistant")
    return {}


def _prefilled(
    messages: list[dict[str, object]], request: ChatRequest, target: TargetFacts
) -> list[dict[str, object]]:
    if request.prefill and (field := target.options.get("prefill_field")):
        messages[-1][field] = True
    return messages


def _streaming(target: TargetFacts) -> dict[str, object]:
    if target.options.get("stream_usage") == "no":
        return {"stream": True}
    options: dict[str, object] = {"include_usage": True}
    if target.running_usage:
        options["continuous_usage_stats"] = True
    return {"stream": True, "stream_options": options}


def write_messages(request: ChatRequest, target: TargetFacts) -> Iterator[dict[str, object]]:
    """The conversation. Tools' messages hold text only: what else they showed follows them as the user's. Raises
    UnsupportedParameter."""
    shown: list[Part] = []
    for message in request.messages:
        if message.role == "tool":
            yield from _results(message)
            shown += _shown(message)
            continue
        if shown:
            yield _turn(Message("user", tuple(shown)), target)
            shown = []
        yield _assistant(message, target) if message.role == "assistant" else _turn(message, target)
    if shown:
        yield _turn(Message("user", tuple(shown)), target)


def _turn(message: Message, target: TargetFacts) -> dict[str, object]:
    role = "system" if message.role == "developer" else message.role
    written: dict[str, object] = {"role": role, "content": _content(message.parts, target)}
    if message.name is not None:
        written["name"] = message.name
    return written


def _content(parts: Iterable[Part], target: TargetFacts) -> object:
    """One string where there is only text: every server reads that."""
    parts = tuple(parts)
    if all(isinstance(part, Text) for part in parts):
        return said(parts)
    return [_part(part, target) for part in parts]


def said(parts: Iterable[Part]) -> str:
    """The text among parts, each on lines of its own."""
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def _part(part: Part, target: TargetFacts) -> dict[str, object]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            return _image(part, target)
        case Audio():
            return {"type": "input_audio", "input_audio": {"data": part.data_base64, "format": part.format}}
        case File():
            return _file(part, target)
        case _:
            raise unsupported(
                "messages", target, f"a part of the kind '{type(part).__name__.lower()}' in a user's turn"
            )


def _image(image: Image, target: TargetFacts) -> dict[str, object]:
    url = media.image_url(image)
    if url is None:
        raise unsupported("messages", target, "an image by file id")
    told = {"url": url, "detail": image.detail} if image.detail else {"url": url}
    return {"type": "image_url", "image_url": told}


def _file(file: File, target: TargetFacts) -> dict[str, object]:
    if file.url is not None:
        raise unsupported("messages", target, "a document by URL")
    if file.file_id is not None:
        return {"type": "file", "file": {"file_id": file.file_id}}
    data = media.file_data_url(file)
    return {"type": "file", "file": {"file_data": data, "filename": file.filename or "document.pdf"}}


def _assistant(message: Message, target: TargetFacts) -> dict[str, object]:
    text = [part for part in message.parts if isinstance(part, Text)]
    refusals = [part.text for part in message.parts if isinstance(part, Refusal)]
    thoughts = [part.text for part in message.parts if isinstance(part, Reasoning) and part.text]
    calls = [_call(part) for part in message.parts if isinstance(part, ToolCall)]
    written: dict[str, object] = {"role": "assistant", "content": said(text) if text or not calls else None}
    if refusals:
        written["refusal"] = "\n".join(refusals)
    if calls:
        written["tool_calls"] = calls
    field = target.options.get("reasoning_field", "reasoning" if target.running_usage else "")
    if thoughts and field:
        written[field] = "\n".join(thoughts)
    return written


def _call(call: ToolCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def _results(message: Message) -> Iterator[dict[str, object]]:
    """OpenAI has no flag for a tool that failed, so its words say it."""
    for result in message.parts:
        if isinstance(result, ToolResult):
            text = said(result.parts)
            content = f"Error: {text}" if result.is_error else text
            yield {"role": "tool", "tool_call_id": result.call_id, "content": content}


def _shown(message: Message) -> Iterator[Part]:
    for result in message.parts:
        if isinstance(result, ToolResult):
            yield from (part for part in result.parts if not isinstance(part, Text))
