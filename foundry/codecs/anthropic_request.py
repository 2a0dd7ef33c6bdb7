"""Anthropic Messages requests of callers in neutral terms (`types/chat.py`).

A user's turn that begins with tool results becomes a turn of the tools and one of the user. Prompt-cache marks are kept where
a target can use them and are hints everywhere else. What it does not know: targets, answers, I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from foundry.codecs.base import Call
from foundry.codecs.members import NULL, Fields, maybe, number, optional, others, raw, typed, whole
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
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

_KNOWN = frozenset(
    {
        "model", "messages", "max_tokens", "system", "stream", "temperature", "top_p", "top_k", "stop_sequences", "tools",
        "tool_choice", "thinking", "metadata", "output_config", "cache_control", "context_management",
    }
)  # fmt: skip
_KEEPS_ALL = raw("all")
_NOTHING_SAID = {"service_tier": (raw("auto"),), "speed": (raw("standard"),)}


class Block(msgspec.Struct):
    """One content block as callers send it: which members hold depends on `type`. Blocks of answers come back as clients got
    them, so members that only answers have (citations, caller, ...) pass."""

    type: str
    text: str = ""
    source: Source | None = None
    title: str | None = None
    thinking: str = ""
    signature: str | None = None
    data: str | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    tool_use_id: str = ""
    content: str | list[Block] | None = None
    is_error: bool | None = None
    cache_control: msgspec.Raw = NULL

    def marked(self) -> bool:
        """A reusable prefix ends here."""
        return self.cache_control != NULL


class Source(msgspec.Struct):
    """Where an image or a document is."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: msgspec.Raw = NULL


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class _Kind(msgspec.Struct):
    type: str | None = None


class _Tool(msgspec.Struct):
    name: str
    input_schema: msgspec.Raw = msgspec.Raw(b'{"type":"object","properties":{}}')
    description: str | None = None
    strict: bool | None = None
    cache_control: msgspec.Raw = NULL


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct):
    type: str
    budget_tokens: int | None = None


class _Format(msgspec.Struct):
    schema: msgspec.Raw
    type: Literal["json_schema"] = "json_schema"


class _OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    effort: ReasoningEffort | None = None
    format: _Format | None = None


class _Metadata(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str | None = None


class _Edit(msgspec.Struct):
    type: str
    keep: msgspec.Raw = _KEEPS_ALL


class _ContextManagement(msgspec.Struct):
    edits: list[_Edit] = []


_messages = msgspec.json.Decoder(list[_Message])
_system = msgspec.json.Decoder(str | list[Block])
_tools = msgspec.json.Decoder(list[msgspec.Raw])
_kind = msgspec.json.Decoder(_Kind)
_tool = msgspec.json.Decoder(_Tool)
_choice = msgspec.json.Decoder(_ToolChoice)
_thinking = msgspec.json.Decoder(_Thinking)
_output_config = msgspec.json.Decoder(_OutputConfig)
_metadata = msgspec.json.Decoder(_Metadata)
_context = msgspec.json.Decoder(_ContextManagement)
_strings = msgspec.json.Decoder(list[str])


def read_request(call: Call) -> ChatRequest:
    """The call in neutral terms. Raises InvalidParameter."""
    fields = call.fields
    foreign: Fields = {}
    choice, parallel = _read_choice(fields)
    effort, budget = _read_thinking(fields, foreign)
    config = optional(fields, "output_config", _output_config) or _OutputConfig()
    messages = (*_read_system(fields), *_read_messages(fields, foreign))
    if not _manages_nothing(fields):
        foreign["context_management"] = fields["context_management"]
    return ChatRequest(
        messages=messages,
        stream=call.stream,
        max_output_tokens=whole(fields, "max_tokens"),
        temperature=number(fields, "temperature"),
        top_p=number(fields, "top_p"),
        top_k=whole(fields, "top_k"),
        stop=tuple(optional(fields, "stop_sequences", _strings) or ()),
        tools=tuple(_read_tools(fields, foreign)),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        output_format=OutputFormat("json_schema", schema=config.format.schema) if config.format else None,
        reasoning_effort=effort or config.effort,
        reasoning_budget_tokens=budget,
        user=user_of(fields) or None,
        prefill=messages[-1].role == "assistant",
        others=_said(others(fields, _KNOWN)) | foreign,
    )


def user_of(fields: Fields) -> str:
    """The end user that the caller names. Raises InvalidParameter."""
    metadata = optional(fields, "metadata", _metadata)
    return (metadata.user_id or "") if metadata else ""


def _said(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value not in _NOTHING_SAID.get(name, ())}


def _manages_nothing(fields: Fields) -> bool:
    """No context management, or one that keeps all thoughts, as Anthropic's own clients send it."""
    context = optional(fields, "context_management", _context)
    return context is None or all(
        edit.type.startswith("clear_thinking") and edit.keep == _KEEPS_ALL for edit in context.edits
    )


def _read_thinking(fields: Fields, foreign: Fields) -> tuple[ReasoningEffort | None, int | None]:
    thinking = optional(fields, "thinking", _thinking)
    if thinking is None or thinking.type == "adaptive":
        return None, None  # the model chooses
    if thinking.type == "disabled":
        return "none", None
    if thinking.type == "enabled":
        return None, thinking.budget_tokens
    foreign["thinking.type"] = raw(thinking.type)
    return None, None


def _read_choice(fields: Fields) -> tuple[ToolChoice | None, bool | None]:
    given = optional(fields, "tool_choice", _choice)
    if given is None:
        return None, None
    parallel = None if given.disable_parallel_tool_use is None else not given.disable_parallel_tool_use
    if given.type == "tool":
        return ToolChoice("named", given.name), parallel
    return ToolChoice("required" if given.type == "any" else given.type), parallel


def _read_tools(fields: Fields, foreign: Fields) -> Iterator[Tool]:
    for position, given in enumerate(optional(fields, "tools", _tools) or ()):
        name = f"tools[{position}]"
        kind = typed(given, _kind, name).type
        if kind not in (None, "custom"):
            foreign[f"tools.{kind}"] = given
            continue
        tool = typed(given, _tool, name)
        yield Tool(tool.name, tool.description, tool.input_schema, tool.strict, tool.cache_control != NULL)


def _read_system(fields: Fields) -> Iterator[Message]:
    system = optional(fields, "system", _system)
    if isinstance(system, str):
        system = [Block("text", text=system)]
    if system:
        yield Message("system", tuple(Text(block.text, block.marked()) for block in system))


def _read_messages(fields: Fields, foreign: Fields) -> Iterator[Message]:
    messages = optional(fields, "messages", _messages)
    if not messages:
        raise InvalidParameter("'messages' must hold at least one message", param="messages")
    for message in messages:
        blocks = message.content
        if isinstance(blocks, str):
            yield Message(message.role, (Text(blocks),))
        elif message.role == "user":
            yield from _user_turns(blocks, foreign)
        else:
            yield Message(message.role, tuple(_parts(blocks, foreign)))


def _user_turns(blocks: list[Block], foreign: Fields) -> Iterator[Message]:
    results = [block for block in blocks if block.type == "tool_result"]
    if results:
        yield Message("tool", tuple(_result(block, foreign) for block in results))
    rest = tuple(_parts((block for block in blocks if block.type != "tool_result"), foreign))
    if rest or not results:
        yield Message("user", rest)


def _result(block: Block, foreign: Fields) -> ToolResult:
    if isinstance(block.content, str):
        return ToolResult(block.tool_use_id, (Text(block.content),), bool(block.is_error))
    parts = _parts(block.content or (), foreign)
    held = tuple(part for part in parts if isinstance(part, Text | Image | File))
    return ToolResult(block.tool_use_id, held, bool(block.is_error))


def _parts(blocks: Iterable[Block], foreign: Fields) -> Iterator[Part]:
    for block in blocks:
        part = _part(block)
        if part is None:
            foreign[f"messages.{block.type}"] = raw(block.type)
        else:
            yield part


def _part(block: Block) -> Part | None:
    match block.type:
        case "text":
            return Text(block.text, block.marked())
        case "image":
            return _image(block.source)
        case "document":
            return _document(block)
        case "thinking":
            return Reasoning(block.thinking, block.signature or None)
        case "redacted_thinking":
            return Reasoning(redacted_base64=block.data)
        case "tool_use":
            return ToolCall(block.id, block.name, bytes(block.input).decode())
        case _:
            return None


def _image(source: Source | None) -> Image | None:
    if source is None:
        raise InvalidParameter("an image block needs a 'source'", param="messages")
    if source.type not in ("base64", "url", "file"):
        return None
    return Image(source.url, source.data, source.media_type, file_id=source.file_id)


def _document(block: Block) -> Part | None:
    source = block.source
    if source is None:
        raise InvalidParameter("a document block needs a 'source'", param="messages")
    if source.type == "text":
        return Text(source.data or "", block.marked())
    if source.type not in ("base64", "url", "file"):
        return None
    return File(source.data, source.media_type, block.title, source.file_id, source.url)


def read_max_tokens(fields: Fields) -> int:
    """The bound that Anthropic requires. Raises InvalidParameter."""
    bound = whole(fields, "max_tokens")
    if bound is None or bound < 1:
        raise InvalidParameter("'max_tokens' is required: a whole number of at least 1", param="max_tokens")
    return bound


def read_stream(fields: Fields) -> bool:
    """Whether the answer is to stream. Raises InvalidParameter."""
    return bool(maybe(fields, "stream"))
