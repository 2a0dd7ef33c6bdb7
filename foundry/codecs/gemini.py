"""Google Gemini as a target: requests for generateContent and streamGenerateContent from the neutral chat types.

Thought signatures, which Gemini wants back with the calls it made, travel inside tool call ids (`gemini_ids.py`), so that
they survive any caller's protocol. Reads of `TargetFacts.options`: `thinking` ("budget": thinkingBudget, "level": thinkingLevel), and
`api_version` ("v1beta"). Answers are read in `gemini_answers.py`. What it does not know: I/O, who called.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Any  # Any: Gemini's JSON, written once and never looked into
from urllib.parse import quote

import msgspec

from foundry.codecs.base import TargetFacts, UpstreamRequest
from foundry.codecs.gemini_answers import GeminiReader, read_answer, told
from foundry.codecs.gemini_ids import OURS, SIGNED, unseal
from foundry.codecs.translate import carried, unsupported
from foundry.errors import InvalidParameter
from foundry.types.chat import (
    Audio,
    ChatAnswer,
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
    ToolChoice,
    ToolResult,
)

_encoder = msgspec.json.Encoder()
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

_NO_SIGNATURE = "skip_thought_signature_validator"
"""What Gemini accepts in place of the signature of a call that another model made."""
_BUDGETS: dict[ReasoningEffort, int] = {
    "none": 0,
    "minimal": 1_024,
    "low": 1_024,
    "medium": 8_192,
    "high": 24_576,
}
"""Tokens by effort, as in Google's own OpenAI-compatible surface."""
_LEVELS: dict[ReasoningEffort, str] = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high"}
_TOP = {"safety_settings": "safetySettings", "cached_content": "cachedContent", "labels": "labels"}
"""Gemini's own members that a caller may send, and their names there."""
_KNOWN = frozenset(_TOP) | frozenset(_TOP.values())
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}


class GeminiDialect:
    """The wire "gemini"."""

    def write_request(self, request: ChatRequest, target: TargetFacts) -> UpstreamRequest:
        """The request. Raises UnsupportedParameter or InvalidParameter."""
        body: dict[str, Any] = {"contents": _contents(request, target)}
        system = _system(request)
        if system:
            body["systemInstruction"] = {"parts": system}
        if request.tools:
            body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]
        if request.tool_choice is not None or any(tool.strict for tool in request.tools):
            body["toolConfig"] = {"functionCallingConfig": _calling(request)}
        if request.prefill:
            raise unsupported("messages", target, "it does not go on from an answer that is begun")
        if request.parallel_tool_calls is False and request.tools:
            raise unsupported("parallel_tool_calls", target, "it always may call several tools at once")
        config = _generation(request, target)
        if config:
            body["generationConfig"] = config
        for name, value in carried(request, _KNOWN, target).items():
            body[_TOP.get(name, name)] = value
        verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return UpstreamRequest(path=f"{model_path(target)}:{verb}", body=_encoder.encode(body))

    def read_answer(self, body: bytes, content_type: str) -> ChatAnswer:
        """A whole answer. Raises UpstreamBroke."""
        del content_type
        return read_answer(body)

    def streams(self, content_type: str) -> bool:
        """Server-sent events are a stream."""
        return content_type.startswith("text/event-stream")

    def reader(self) -> GeminiReader:
        """A fresh reader."""
        return GeminiReader()

    told = staticmethod(told)


GEMINI = GeminiDialect()


def model_path(target: TargetFacts) -> str:
    """The model's path: a bare name is one of `models/`, a longer one (`tunedModels/x`) is taken as it is."""
    version = target.options.get("api_version", "v1beta")
    return f"/{version}/" + quote(model_name(target), safe="/")


def model_name(target: TargetFacts) -> str:
    """The model's full name."""
    return target.model if "/" in target.model else f"models/{target.model}"


def _system(request: ChatRequest) -> list[dict[str, Any]]:
    return [
        {"text": part.text}
        for message in request.messages
        if message.role in ("system", "developer")
        for part in message.parts
        if isinstance(part, Text)
    ]


def _contents(request: ChatRequest, target: TargetFacts) -> list[dict[str, Any]]:
    names = {
        part.id: part.name
        for message in request.messages
        for part in message.parts
        if isinstance(part, ToolCall)
    }
    contents: list[dict[str, Any]] = []
    for message in request.messages:
        if message.role in ("system", "developer"):
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = _parts(message, names, target)
        if (
            contents and contents[-1]["role"] == role
        ):  # turns alternate: answers of parallel calls are one turn
            contents[-1]["parts"].extend(parts)
        elif parts:
            contents.append({"role": role, "parts": parts})
    return contents


def _parts(message: Message, names: Mapping[str, str], target: TargetFacts) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    signature: str | None = None
    for part in message.parts:
        if isinstance(part, Reasoning):  # thoughts themselves are not sent back, their signature is
            if part.signature and part.signature.startswith(SIGNED):
                signature = part.signature.removeprefix(SIGNED)
            continue
        entry = _part(part, names, target)
        if signature is not None and "text" in entry:
            entry["thoughtSignature"], signature = signature, None
        written.append(entry)
    if signature is not None and not any("thoughtSignature" in entry for entry in written):
        written.append({"text": "", "thoughtSignature": signature})
    calls = [entry for entry in written if "functionCall" in entry]
    if (
        calls
        and target.options.get("thinking") == "level"
        and not any("thoughtSignature" in c for c in calls)
    ):
        calls[0]["thoughtSignature"] = _NO_SIGNATURE
    return written


def _part(part: Part, names: Mapping[str, str], target: TargetFacts) -> dict[str, Any]:
    match part:
        case Text() | Refusal():
            return {"text": part.text}
        case Image():
            return _image(part)
        case Audio():
            return _inline(part.data_base64, f"audio/{part.format}")
        case File():
            return _file(part)
        case ToolCall():
            return _call(part)
        case ToolResult():
            return _result(part, names, target)
        case Reasoning():
            return {"text": part.text, "thought": True}


def _inline(data_base64: str, media_type: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": media_type, "data": data_base64}}


def _image(part: Image) -> dict[str, Any]:
    if part.data_base64 is not None:
        return _inline(part.data_base64, part.media_type or "image/png")
    return _by_uri(part.file_id or part.url or "", part.media_type, "image/jpeg")


def _file(part: File) -> dict[str, Any]:
    media_type = part.media_type or mimetypes.guess_type(part.filename or "")[0]
    if part.data_base64 is not None:
        return _inline(part.data_base64, media_type or "application/pdf")
    return _by_uri(part.file_id or part.url or "", media_type, "application/pdf")


def _by_uri(uri: str, media_type: str | None, otherwise: str) -> dict[str, Any]:
    guessed = media_type or mimetypes.guess_type(uri.partition("?")[0])[0] or otherwise
    return {"fileData": {"fileUri": uri, "mimeType": guessed}}


def _call(part: ToolCall) -> dict[str, Any]:
    call_id, signature = unseal(part.id)
    call: dict[str, Any] = {"name": part.name, "args": _arguments(part)}
    if not call_id.startswith(OURS):
        call["id"] = call_id
    return {"functionCall": call} | ({"thoughtSignature": signature} if signature else {})


def _arguments(part: ToolCall) -> dict[str, msgspec.Raw]:
    try:
        return _object.decode(part.arguments or "{}")
    except msgspec.DecodeError as error:
        raise InvalidParameter(
            f"the arguments of the tool call '{part.id}' must be a JSON object: {error}", param="messages"
        ) from error


def _result(part: ToolResult, names: Mapping[str, str], target: TargetFacts) -> dict[str, Any]:
    if part.call_id not in names:
        raise InvalidParameter(
            f"a tool answers the call '{part.call_id}', which no message before it makes", param="messages"
        )
    if any(not isinstance(inner, Text) for inner in part.parts):
        raise unsupported("messages", target, "it takes only text in the answers of tools")
    text = "".join(inner.text for inner in part.parts if isinstance(inner, Text))
    answer: dict[str, Any] = {
        "name": names[part.call_id],
        "response": _response(text, is_error=part.is_error),
    }
    call_id = unseal(part.call_id)[0]
    if not call_id.startswith(OURS):
        answer["id"] = call_id
    return {"functionResponse": answer}


def _response(text: str, *, is_error: bool) -> Mapping[str, Any]:
    if is_error:
        return {"error": text}
    try:
        return _object.decode(text)
    except msgspec.DecodeError:
        return {"output": text}


def _declaration(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parametersJsonSchema": tool.parameters}


def _calling(request: ChatRequest) -> dict[str, Any]:
    choice = request.tool_choice or ToolChoice(mode="auto")
    if choice.mode == "named":
        return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    strict = choice.mode == "auto" and any(tool.strict for tool in request.tools)
    return {"mode": "VALIDATED" if strict else _MODES[choice.mode]}


def _generation(request: ChatRequest, target: TargetFacts) -> dict[str, Any]:
    config: dict[str, Any] = {
        "maxOutputTokens": request.max_output_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "stopSequences": list(request.stop) or None,
        "candidateCount": request.n if request.n > 1 else None,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        "responseLogprobs": True if request.logprobs else None,
        "logprobs": request.top_logprobs if request.logprobs else None,
        "thinkingConfig": _thinking(request, target),
    }
    output = request.output_format
    if output is not None and output.kind != "text":
        config["responseMimeType"] = "application/json"
        if output.kind == "json_schema":
            config["responseJsonSchema"] = output.schema
    return {name: value for name, value in config.items() if value is not None}


def _thinking(request: ChatRequest, target: TargetFacts) -> dict[str, Any] | None:
    effort, budget = request.reasoning_effort, request.reasoning_budget_tokens
    if effort is None and budget is None:
        return None
    style = target.options.get("thinking")
    if style is None:
        raise unsupported(
            "reasoning_effort" if budget is None else "thinking", target, "this model does not think"
        )
    if budget is not None:
        return {"thinkingBudget": budget, "includeThoughts": budget > 0}
    if style == "budget" and effort in _BUDGETS:
        return {"thinkingBudget": _BUDGETS[effort], "includeThoughts": effort != "none"}
    if style == "level" and effort in _LEVELS:
        return {"thinkingLevel": _LEVELS[effort], "includeThoughts": True}
    raise unsupported("reasoning_effort", target, f"it has no effort '{effort}'")
