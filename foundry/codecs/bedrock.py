"""AWS Bedrock as a target: requests for Converse and ConverseStream from the neutral chat types.

Reads of `TargetFacts.options`: `thinking` ("adaptive" and "budget": Claude, "nova": Nova 2, "effort": models with OpenAI's
`reasoning_effort`), `top_k_path` (where a model wants top_k) and `refuses` (parameters that the model has not). Answers are read
in `bedrock_answers.py`. What it does not know: signatures, I/O, who called.
"""

from __future__ import annotations

import mimetypes
import re
from typing import Any  # Any: Bedrock's JSON, written once and never looked into
from urllib.parse import quote

import msgspec

from foundry.codecs.base import TargetFacts, UpstreamRequest
from foundry.codecs.bedrock_answers import EVENT_STREAM, BedrockReader, read_answer, told
from foundry.codecs.gemini_ids import SIGNED as GEMINIS
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
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

_encoder = msgspec.json.Encoder()
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

_IMAGES = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENTS = {
    "application/pdf": "pdf", "text/csv": "csv", "application/msword": "doc", "text/html": "html", "text/plain": "txt",
    "text/markdown": "md", "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}  # fmt: skip
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9 ()\[\]-]+")
_CACHE_POINT = {"cachePoint": {"type": "default"}}
_EXTRA = "additionalModelRequestFields"
_OWN = frozenset({"guardrailConfig", "performanceConfig", "requestMetadata", "serviceTier", _EXTRA})
"""Bedrock's own members that a caller may send."""
_BUDGETS: dict[str, int] = {
    "minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 65_536,
}  # fmt: skip
"""Thinking tokens by effort, for models that want a number, as for Anthropic itself; 1,024 is the least that Claude takes."""
_EFFORTS = {
    "adaptive": ("minimal", "low", "medium", "high", "xhigh", "max"),
    "nova": ("low", "medium", "high"),
    "effort": ("low", "medium", "high"),
}


class BedrockDialect:
    """The wire "bedrock"."""

    def write_request(self, request: ChatRequest, target: TargetFacts) -> UpstreamRequest:
        """The request. Raises UnsupportedParameter or InvalidParameter."""
        _refuse_what_it_has_not(request, target)
        extra, output = _thinking(request, target), _output(request)
        if "effort" in extra:
            output["effort"] = extra.pop("effort")
        body: dict[str, Any] = {
            "messages": _messages(request, target),
            "system": _system(request),
            "inferenceConfig": _inference(request),
            "toolConfig": _tools(request, target),
            "outputConfig": output,
        }
        for name, value in carried(request, _OWN, target).items():
            if name == _EXTRA:
                extra |= _members(value, name)
            else:
                body[name] = value
        if request.top_k is not None:
            _put(extra, target.options.get("top_k_path", "top_k"), request.top_k)
        body[_EXTRA] = extra
        written = {name: value for name, value in body.items() if value}
        return UpstreamRequest(path=model_path(target, _verb(request)), body=_encoder.encode(written))

    def read_answer(self, body: bytes, content_type: str) -> ChatAnswer:
        """A whole answer. Raises UpstreamBroke."""
        del content_type
        return read_answer(body)

    def streams(self, content_type: str) -> bool:
        """AWS's binary event stream is a stream."""
        return content_type.startswith(EVENT_STREAM)

    def reader(self) -> BedrockReader:
        """A fresh reader."""
        return BedrockReader()

    told = staticmethod(told)


BEDROCK = BedrockDialect()


def model_path(target: TargetFacts, verb: str) -> str:
    """The path of one operation on a model: ids hold colons, ARNs slashes, and both must be escaped."""
    return f"/model/{quote(target.model, safe='')}/{verb}"


def _verb(request: ChatRequest) -> str:
    return "converse-stream" if request.stream else "converse"


def _refuse_what_it_has_not(request: ChatRequest, target: TargetFacts) -> None:
    output = request.output_format
    for name in target.options.get("refuses", "").split(","):
        if name and getattr(request, name) is not None:
            raise unsupported(name, target, "this model takes none")
    for name, asked in (
        ("n", request.n > 1),
        ("seed", request.seed is not None),
        ("logprobs", request.logprobs),
        ("presence_penalty", bool(request.presence_penalty)),
        ("frequency_penalty", bool(request.frequency_penalty)),
        ("parallel_tool_calls", request.parallel_tool_calls is False and bool(request.tools)),
    ):
        if asked:
            raise unsupported(name, target, "Bedrock's Converse has nothing like it")
    if output is not None and output.kind == "json_object":
        raise unsupported("response_format", target, "Bedrock's Converse has json_schema, not json_object")


def _system(request: ChatRequest) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for message in request.messages:
        if message.role not in ("system", "developer"):
            continue
        for part in message.parts:
            if isinstance(part, Text) and part.text:
                blocks.append({"text": part.text})
                if part.cache_breakpoint:
                    blocks.append(_CACHE_POINT)
    return blocks


def _messages(request: ChatRequest, target: TargetFacts) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for message in request.messages:
        if message.role in ("system", "developer"):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        content = _content(message, target)
        if (
            messages and messages[-1]["role"] == role
        ):  # turns alternate: answers of parallel calls are one turn
            messages[-1]["content"].extend(content)
        elif content:
            messages.append({"role": role, "content": content})
    return messages


def _content(message: Message, target: TargetFacts) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for part in message.parts:
        block = _block(part, target)
        if block is not None:
            blocks.append(block)
            if isinstance(part, Text) and part.cache_breakpoint:
                blocks.append(_CACHE_POINT)
    return blocks


def _block(part: Part, target: TargetFacts) -> dict[str, Any] | None:
    match part:
        case Text() | Refusal():
            return {"text": part.text} if part.text else None  # empty text is refused
        case Image():
            return {"image": _image(part, target)}
        case Audio():
            return {"audio": {"format": part.format, "source": {"bytes": part.data_base64}}}
        case File():
            return {"document": _document(part, target)}
        case Reasoning():
            return _reasoning(part)
        case ToolCall():
            arguments = _members(msgspec.Raw((part.arguments or "{}").encode()), "messages")
            return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": arguments}}
        case ToolResult():
            return {"toolResult": _result(part, target)}


def _image(part: Image, target: TargetFacts) -> dict[str, Any]:
    if part.data_base64 is not None:
        form = _format(part.media_type or "image/png", _IMAGES, target)
        return {"format": form, "source": {"bytes": part.data_base64}}
    url = part.url or ""
    if not url.startswith("s3://"):
        raise unsupported("messages", target, "it takes images as data or from s3://, not from elsewhere")
    form = _format(mimetypes.guess_type(url)[0] or "", _IMAGES, target)
    return {"format": form, "source": {"s3Location": {"uri": url}}}


def _document(part: File, target: TargetFacts) -> dict[str, Any]:
    if part.data_base64 is None:
        raise unsupported("messages", target, "it takes files as data, not by id or URL")
    media_type = part.media_type or mimetypes.guess_type(part.filename or "")[0] or "application/pdf"
    name = " ".join(_NOT_IN_NAMES.sub(" ", part.filename or "document").split()) or "document"
    return {
        "format": _format(media_type, _DOCUMENTS, target),
        "name": name,
        "source": {"bytes": part.data_base64},
    }


def _format(media_type: str, known: dict[str, str], target: TargetFacts) -> str:
    try:
        return known[media_type]
    except KeyError:
        raise unsupported("messages", target, f"it takes no '{media_type}', but {', '.join(known)}") from None


def _reasoning(part: Reasoning) -> dict[str, Any] | None:
    """Thoughts go back only with the signature of a model that Bedrock serves; others are left out."""
    if part.redacted_base64 is not None:
        return {"reasoningContent": {"redactedContent": part.redacted_base64}}
    if part.signature is None or part.signature.startswith(GEMINIS):
        return None
    return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}


def _result(part: ToolResult, target: TargetFacts) -> dict[str, Any]:
    blocks = (_block(inner, target) for inner in part.parts)
    content = [block for block in blocks if block is not None]
    status = {"status": "error"} if part.is_error else {}
    return {"toolUseId": part.call_id, "content": content, **status}


def _inference(request: ChatRequest) -> dict[str, Any]:
    config: dict[str, Any] = {
        "maxTokens": request.max_output_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": list(request.stop) or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _tools(request: ChatRequest, target: TargetFacts) -> dict[str, Any] | None:
    if not request.tools:
        return None
    choice = request.tool_choice
    if choice is not None and choice.mode == "none":
        if any(isinstance(part, ToolCall | ToolResult) for m in request.messages for part in m.parts):
            raise unsupported("tool_choice", target, "'none' is not possible once tools were called")
        return None
    tools: list[dict[str, Any]] = []
    for tool in request.tools:
        tools += [{"toolSpec": _tool(tool)}, *([_CACHE_POINT] if tool.cache_breakpoint else ())]
    config: dict[str, Any] = {"tools": tools}
    if choice is not None:
        named = {"tool": {"name": choice.name}}
        config["toolChoice"] = named if choice.mode == "named" else {_CHOICES[choice.mode]: {}}
    return config


_CHOICES = {"auto": "auto", "required": "any"}


def _tool(tool: Tool) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": tool.name, "inputSchema": {"json": tool.parameters}}
    if tool.description:
        spec["description"] = tool.description
    if tool.strict:
        spec["strict"] = True
    return spec


def _output(request: ChatRequest) -> dict[str, Any]:
    wanted = request.output_format
    if wanted is None or wanted.kind != "json_schema":
        return {}
    schema = {"schema": bytes(wanted.schema).decode(), "name": wanted.name}
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}


def _thinking(request: ChatRequest, target: TargetFacts) -> dict[str, Any]:
    """Members of additionalModelRequestFields, and `effort` of outputConfig."""
    effort, budget, style = (
        request.reasoning_effort,
        request.reasoning_budget_tokens,
        target.options.get("thinking"),
    )
    if (effort is None or effort == "none") and budget is None:
        return {}
    name = "reasoning_effort" if budget is None else "thinking"
    if style == "budget":
        tokens = budget if budget is not None else _BUDGETS.get(effort or "")
        if tokens is not None:
            return {"thinking": {"type": "enabled", "budget_tokens": tokens}}
    elif budget is None and style in _EFFORTS and effort in _EFFORTS[style]:
        if style == "adaptive":
            return {"thinking": {"type": "adaptive"}, "effort": "low" if effort == "minimal" else effort}
        if style == "nova":
            return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}
        return {"reasoning_effort": effort}
    raise unsupported(name, target, "this model does not think in that way")


def _members(raw: msgspec.Raw, name: str) -> dict[str, msgspec.Raw]:
    try:
        return _object.decode(raw)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"'{name}' must hold a JSON object here: {error}", param=name) from error


def _put(tree: dict[str, Any], path: str, value: object) -> None:
    *folders, last = path.split(".")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[last] = value
