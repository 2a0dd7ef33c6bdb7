"""OpenAI Responses requests of callers in neutral terms (`types/chat.py`).

Items become turns: what the assistant thought, said and called in a row is one turn, and so are the outputs of its calls.
`store`, `background`, `conversation` and `previous_response_id` are the store's (`gateway/stateful`), which puts earlier items
into `input` before a leg is asked: here they are only known. What it does not know: targets, answers, I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from foundry.codecs import media
from foundry.codecs.base import Call
from foundry.codecs.members import NULL, Fields, maybe, number, optional, others, raw, string, typed, whole
from foundry.codecs.responses_thoughts import read_thought
from foundry.errors import InvalidParameter
from foundry.types.chat import (
    ChatRequest,
    File,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningEffort,
    Refusal,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

_KNOWN = frozenset(
    {
        "model", "input", "instructions", "stream", "stream_options", "max_output_tokens", "max_tool_calls", "temperature",
        "top_p", "top_k", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning", "include", "top_logprobs", "user",
        "safety_identifier", "metadata", "store", "background", "conversation", "previous_response_id",
    }
)  # fmt: skip
"""Besides the store's: `metadata` is echoed; `max_tool_calls` bounds built-in tools, and a request with any is refused."""
_NOTHING_SAID = {
    "truncation": (raw("disabled"),),
    "service_tier": (raw("auto"), raw("default")),
    "context_management": (raw([]),),
}
_INCLUDED_ANYWAY = frozenset(
    {
        "reasoning.encrypted_content", "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
        "message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    }
)  # fmt: skip
"""Signed thoughts are always told; the others are of built-in tools, and a request with any of those is refused."""
_LOGPROBS = "message.output_text.logprobs"


class _Content(msgspec.Struct):
    type: str
    text: str = ""
    refusal: str = ""
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    prompt_cache_breakpoint: msgspec.Raw = NULL


class Item(msgspec.Struct):
    """One item of the input: which members hold depends on `type`. Items of answers come back as clients got them."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[_Content] | None = None
    summary: list[_Content] | None = None
    encrypted_content: str | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[_Content] = ""


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = NULL
    strict: bool | None = None


class _Kind(msgspec.Struct):
    type: str


class _Named(msgspec.Struct):
    name: str
    type: Literal["function"]


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str = "answer"
    schema: msgspec.Raw = msgspec.Raw(b"{}")
    strict: bool | None = None


class _TextConfig(msgspec.Struct, forbid_unknown_fields=True):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct, forbid_unknown_fields=True):
    """A summary is a wish that every target answers with the thoughts it shows."""

    effort: ReasoningEffort | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


_input = msgspec.json.Decoder(str | list[Item])
_tools = msgspec.json.Decoder(list[msgspec.Raw])
_kind = msgspec.json.Decoder(_Kind)
_function = msgspec.json.Decoder(_Function)
_choice = msgspec.json.Decoder(msgspec.Raw)
_mode = msgspec.json.Decoder(Literal["auto", "none", "required"])
_named = msgspec.json.Decoder(_Named)
_text = msgspec.json.Decoder(_TextConfig)
_reasoning = msgspec.json.Decoder(_Reasoning)
_strings = msgspec.json.Decoder(list[str])


def read_request(call: Call) -> ChatRequest:
    """The call in neutral terms. Raises InvalidParameter."""
    fields = call.fields
    foreign: Fields = {}
    text = optional(fields, "text", _text) or _TextConfig()
    if text.verbosity not in (None, "medium"):
        foreign["verbosity"] = raw(text.verbosity)
    top_logprobs = whole(fields, "top_logprobs")
    return ChatRequest(
        messages=tuple(_messages(fields, foreign)),
        stream=call.stream,
        max_output_tokens=whole(fields, "max_output_tokens"),
        temperature=number(fields, "temperature"),
        top_p=number(fields, "top_p"),
        top_k=whole(fields, "top_k"),
        logprobs=_wants_logprobs(fields, foreign) or bool(top_logprobs),
        top_logprobs=top_logprobs,
        tools=tuple(_read_tools(fields, foreign)),
        tool_choice=_read_choice(fields, foreign),
        parallel_tool_calls=maybe(fields, "parallel_tool_calls"),
        output_format=_neutral_format(text.format),
        reasoning_effort=_read_effort(fields, foreign),
        user=string(fields, "user") or string(fields, "safety_identifier"),
        others=_said(others(fields, _KNOWN)) | foreign,
    )


def _said(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value not in _NOTHING_SAID.get(name, ())}


def _wants_logprobs(fields: Fields, foreign: Fields) -> bool:
    include = optional(fields, "include", _strings) or []
    for name in include:
        if name != _LOGPROBS and name not in _INCLUDED_ANYWAY:
            foreign[f"include.{name}"] = raw(name)
    return _LOGPROBS in include


def _read_effort(fields: Fields, foreign: Fields) -> ReasoningEffort | None:
    reasoning = optional(fields, "reasoning", _reasoning) or _Reasoning()
    if reasoning.context not in (None, "auto"):
        foreign["reasoning.context"] = raw(reasoning.context)
    if reasoning.mode not in (None, "standard"):
        foreign["reasoning.mode"] = raw(reasoning.mode)
    return reasoning.effort


def _neutral_format(given: _Format | None) -> OutputFormat | None:
    if given is None or given.type == "text":
        return None
    return OutputFormat(given.type, given.name, given.schema, given.strict)


def _read_tools(fields: Fields, foreign: Fields) -> Iterator[Tool]:
    for position, given in enumerate(optional(fields, "tools", _tools) or ()):
        name = f"tools[{position}]"
        kind = typed(given, _kind, name).type
        if kind != "function":
            foreign[f"tools.{kind}"] = given
            continue
        function = typed(given, _function, name)
        tool = Tool(function.name, function.description, strict=function.strict)
        yield (
            tool
            if function.parameters == NULL
            else msgspec.structs.replace(tool, parameters=function.parameters)
        )


def _read_choice(fields: Fields, foreign: Fields) -> ToolChoice | None:
    given = optional(fields, "tool_choice", _choice)
    if given is None:
        return None
    if bytes(given).startswith(b'"'):
        return ToolChoice(typed(given, _mode, "tool_choice"))
    kind = typed(given, _kind, "tool_choice").type
    if kind != "function":
        foreign[f"tool_choice.{kind}"] = given
        return None
    return ToolChoice("named", typed(given, _named, "tool_choice").name)


def _messages(fields: Fields, foreign: Fields) -> Iterator[Message]:
    instructions = string(fields, "instructions")
    if instructions:
        yield Message("system", (Text(instructions),))
    given = optional(fields, "input", _input)
    if not given:
        raise InvalidParameter("'input' must be a text or a list with at least one item", param="input")
    if isinstance(given, str):
        yield Message("user", (Text(given),))
        return
    yield from _joined(_turn(item, foreign) for item in given)


def _joined(turns: Iterable[tuple[Role, tuple[Part, ...]]]) -> Iterator[Message]:
    """Turns of the assistant in a row are one, and so are the tools'."""
    role: Role | None = None
    parts: tuple[Part, ...] = ()
    for speaker, said in turns:
        if speaker == role and role in ("assistant", "tool"):
            parts += said
            continue
        if role is not None and parts:
            yield Message(role, parts)
        role, parts = speaker, said
    if role is not None and parts:
        yield Message(role, parts)


def _turn(item: Item, foreign: Fields) -> tuple[Role, tuple[Part, ...]]:
    match item.type:
        case "message":
            return item.role, tuple(_parts(item.content or "", foreign))
        case "function_call":
            return "assistant", (ToolCall(item.call_id, item.name, item.arguments),)
        case "function_call_output":
            parts = _parts(item.output, foreign)
            shown = tuple(part for part in parts if isinstance(part, Text | Image | File))
            return "tool", (ToolResult(item.call_id, shown),)
        case "reasoning":
            return "assistant", tuple(_thoughts(item))
        case other:
            foreign[f"input.{other}"] = raw(other)
            return "user", ()


def _thoughts(item: Item) -> Iterator[Reasoning]:
    content = item.content if isinstance(item.content, list) else None
    text = "".join(part.text for part in content or item.summary or ())
    thought = read_thought(text, item.encrypted_content)
    if thought is not None:
        yield thought


def _parts(content: str | list[_Content], foreign: Fields) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for part in content:
        match part.type:
            case "input_text" | "output_text" | "text":
                yield Text(part.text, part.prompt_cache_breakpoint != NULL)
            case "refusal":
                yield Refusal(part.refusal)
            case "input_image":
                yield _image(part)
            case "input_file":
                yield _file(part)
            case other:
                foreign[f"input.{other}"] = raw(other)


def _image(part: _Content) -> Image:
    if part.image_url is None:
        return Image(file_id=part.file_id, detail=part.detail)
    return media.image_of(part.image_url, part.detail)


def _file(part: _Content) -> File:
    return media.file_of(part.file_data, filename=part.filename, file_id=part.file_id, url=part.file_url)
