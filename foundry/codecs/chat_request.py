"""OpenAI chat requests of callers in neutral terms (`types/chat.py`).

What it does not know: targets, answers, I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from foundry.codecs import media
from foundry.codecs.base import Call
from foundry.codecs.members import FALSE, NULL, Fields, maybe, number, optional, others, raw, string, whole
from foundry.errors import InvalidParameter
from foundry.types.chat import (
    Audio,
    ChatRequest,
    File,
    Image,
    Message,
    OutputFormat,
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

_KNOWN = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
        "top_k", "stop", "n", "seed", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "tools",
        "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "user", "safety_identifier",
        "continue_final_message", "add_generation_prompt",
    }
)  # fmt: skip
_NOTHING_SAID = {
    "store": (FALSE,),
    "service_tier": (raw("auto"), raw("default")),
    "modalities": (raw(["text"]),),
    "logit_bias": (raw({}),),
    "metadata": (raw({}),),
}
"""Values that say what holds anyway."""


class _CacheControl(msgspec.Struct):
    type: str = "ephemeral"


class _TextPart(msgspec.Struct, tag="text", forbid_unknown_fields=True):
    text: str
    cache_control: _CacheControl | None = None

    def neutral(self) -> Text:
        return Text(self.text, cache_breakpoint=self.cache_control is not None)


class _ImageUrl(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    detail: str | None = None


class _ImagePart(msgspec.Struct, tag="image_url", forbid_unknown_fields=True):
    image_url: _ImageUrl | str

    def neutral(self) -> Image:
        given = self.image_url
        return media.image_of(given) if isinstance(given, str) else media.image_of(given.url, given.detail)


class _InputAudio(msgspec.Struct, forbid_unknown_fields=True):
    data: str
    format: str


class _AudioPart(msgspec.Struct, tag="input_audio", forbid_unknown_fields=True):
    input_audio: _InputAudio

    def neutral(self) -> Audio:
        return Audio(data_base64=self.input_audio.data, format=self.input_audio.format)


class _FileData(msgspec.Struct, forbid_unknown_fields=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _FilePart(msgspec.Struct, tag="file", forbid_unknown_fields=True):
    file: _FileData

    def neutral(self) -> File:
        return media.file_of(self.file.file_data, filename=self.file.filename, file_id=self.file.file_id)


class _RefusalPart(msgspec.Struct, tag="refusal", forbid_unknown_fields=True):
    refusal: str

    def neutral(self) -> Refusal:
        return Refusal(self.refusal)


_Part = _TextPart | _ImagePart | _AudioPart | _FilePart | _RefusalPart


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _Call(msgspec.Struct):
    id: str
    function: _Function


class ReasoningDetail(msgspec.Struct, omit_defaults=True):
    """A thought with what its maker wants back (OpenRouter's `reasoning_details`)."""

    type: str
    text: str = ""
    signature: str | None = None
    data: str | None = None
    index: int | None = None
    """Its place: the official client joins entries of streamed lists by it."""


class _Message(msgspec.Struct):
    """Assistants' messages come back as clients got them, so members that only answers have (annotations, ...) pass."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[ReasoningDetail] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


class _ToolFunction(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = NULL
    strict: bool | None = None


class _FunctionTool(msgspec.Struct, forbid_unknown_fields=True):
    function: _ToolFunction
    type: Literal["function"] = "function"
    cache_control: _CacheControl | None = None


class _Kind(msgspec.Struct):
    type: str


class _Named(msgspec.Struct):
    name: str


class _NamedTool(msgspec.Struct):
    function: _Named
    type: Literal["function"] = "function"


class _Schema(msgspec.Struct, forbid_unknown_fields=True):
    name: str = "answer"
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw(b"{}")
    strict: bool | None = None


class _Format(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


_messages = msgspec.json.Decoder(list[_Message])
_tools = msgspec.json.Decoder(list[msgspec.Raw])
_kind = msgspec.json.Decoder(_Kind)
_tool = msgspec.json.Decoder(_FunctionTool)
_choice = msgspec.json.Decoder(Literal["auto", "none", "required"] | _NamedTool)
_format = msgspec.json.Decoder(_Format)
_stop = msgspec.json.Decoder(str | list[str])
_effort: msgspec.json.Decoder[ReasoningEffort] = msgspec.json.Decoder(ReasoningEffort)


def read_request(call: Call) -> ChatRequest:
    """The call in neutral terms. Raises InvalidParameter."""
    fields = call.fields
    tools, foreign_tools = _read_tools(fields)
    bound = whole(fields, "max_completion_tokens")
    return ChatRequest(
        messages=read_messages(fields),
        stream=call.stream,
        max_output_tokens=whole(fields, "max_tokens") if bound is None else bound,
        temperature=number(fields, "temperature"),
        top_p=number(fields, "top_p"),
        top_k=whole(fields, "top_k"),
        stop=read_stop(fields),
        n=whole(fields, "n") or 1,
        seed=whole(fields, "seed"),
        logprobs=bool(maybe(fields, "logprobs")),
        top_logprobs=whole(fields, "top_logprobs"),
        presence_penalty=number(fields, "presence_penalty"),
        frequency_penalty=number(fields, "frequency_penalty"),
        tools=tools,
        tool_choice=_read_choice(fields),
        parallel_tool_calls=maybe(fields, "parallel_tool_calls"),
        output_format=_read_format(fields),
        reasoning_effort=optional(fields, "reasoning_effort", _effort),
        user=string(fields, "user") or string(fields, "safety_identifier"),
        prefill=bool(maybe(fields, "continue_final_message")),
        others=said(others(fields, _KNOWN)) | foreign_tools,
    )


def said(fields: Fields) -> Fields:
    """Without members whose value is what holds anyway."""
    return {name: value for name, value in fields.items() if value not in _NOTHING_SAID.get(name, ())}


def read_stop(fields: Fields) -> tuple[str, ...]:
    """Stop sequences: one or a list."""
    given = optional(fields, "stop", _stop)
    return (given,) if isinstance(given, str) else tuple(given or ())


def read_messages(fields: Fields) -> tuple[Message, ...]:
    """The conversation. Raises InvalidParameter."""
    given = optional(fields, "messages", _messages)
    if not given:
        raise InvalidParameter("'messages' must hold at least one message", param="messages")
    return tuple(_message(number, message) for number, message in enumerate(given))


def _message(position: int, message: _Message) -> Message:
    if message.role == "tool":
        if not message.tool_call_id:
            param = f"messages[{position}].tool_call_id"
            raise InvalidParameter(f"'{param}' is required in a message of the role 'tool'", param=param)
        result = ToolResult(message.tool_call_id, _result_parts(position, message))
        return Message("tool", (result,), message.name)
    return Message(message.role, tuple(_parts(message)), message.name)


def _result_parts(position: int, message: _Message) -> tuple[Text | Image | File, ...]:
    parts: list[Text | Image | File] = []
    for part in _content(message):
        if not isinstance(part, Text | Image | File):
            param = f"messages[{position}].content"
            raise InvalidParameter(f"'{param}' of a tool may hold text, images and files", param=param)
        parts.append(part)
    return tuple(parts)


def _content(message: _Message) -> Iterable[Part]:
    if isinstance(message.content, str):
        return (Text(message.content),)
    return (part.neutral() for part in message.content or ())


def _parts(message: _Message) -> Iterable[Part]:
    yield from _thoughts(message)
    yield from _content(message)
    if message.refusal:
        yield Refusal(message.refusal)
    for call in message.tool_calls or ():
        yield ToolCall(call.id, call.function.name, call.function.arguments)


def _thoughts(message: _Message) -> Iterable[Reasoning]:
    if message.reasoning_details:
        for detail in message.reasoning_details:
            yield Reasoning(detail.text, detail.signature, detail.data)
    elif thoughts := message.reasoning_content or message.reasoning:
        yield Reasoning(thoughts)


def _read_tools(fields: Fields) -> tuple[tuple[Tool, ...], Fields]:
    """Functions, and tools of other kinds by path for `others`."""
    tools: list[Tool] = []
    foreign: Fields = {}
    for position, given in enumerate(optional(fields, "tools", _tools) or ()):
        place = {f"tools[{position}]": given}
        kind = optional(place, f"tools[{position}]", _kind)
        if kind is not None and kind.type != "function":
            foreign[f"tools.{kind.type}"] = given
            continue
        tool = optional(place, f"tools[{position}]", _tool)
        if tool is not None:
            tools.append(_neutral_tool(tool))
    return tuple(tools), foreign


def _neutral_tool(tool: _FunctionTool) -> Tool:
    function, marked = tool.function, tool.cache_control is not None
    if function.parameters == NULL:
        return Tool(function.name, function.description, strict=function.strict, cache_breakpoint=marked)
    return Tool(function.name, function.description, function.parameters, function.strict, marked)


def _read_choice(fields: Fields) -> ToolChoice | None:
    given = optional(fields, "tool_choice", _choice)
    if given is None:
        return None
    return ToolChoice("named", given.function.name) if isinstance(given, _NamedTool) else ToolChoice(given)


def _read_format(fields: Fields) -> OutputFormat | None:
    given = optional(fields, "response_format", _format)
    if given is None:
        return None
    if given.type != "json_schema":
        return OutputFormat(given.type)
    if given.json_schema is None:
        param = "response_format.json_schema"
        raise InvalidParameter(f"'{param}' is required for the type 'json_schema'", param=param)
    schema = given.json_schema
    return OutputFormat("json_schema", schema.name, schema.schema, schema.strict)
