"""The events of a stream as callers see them: which pieces of text they carry, for which channel, and how to write them anew.

A *channel* is one run of text: choice 0's content, the arguments of tool call 2. An event may add a piece to some, end some, or
carry a whole text again (the Responses API does). One reader for every protocol whose streams are server-sent events with
JSON. What it does not know: guards, windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec

from foundry.gateway.guardrails import texts
from foundry.gateway.guardrails.base import Place, Role, Said

Channel = tuple[Role, int | str, int | str]
"""Role, then what tells runs of text apart in the protocol (choice and tool call, output item and part)."""
_DELTA_ROLES: dict[str, Role] = {
    "content": "assistant", "reasoning": "reasoning", "reasoning_content": "reasoning", "refusal": "refusal",
}  # fmt: skip
_BLOCK_ROLES: dict[str, Role] = {
    "text": "assistant",
    "thinking": "reasoning",
    "partial_json": "tool_call",
}


class Piece(msgspec.Struct):
    """Text that an event adds to a channel, and where it stands in the event's JSON."""

    channel: Channel
    text: str
    """Changes when it is redacted."""
    place: Place
    came: str = ""
    """As it came; the same object as `text` until that changes."""

    def __post_init__(self) -> None:
        self.came = self.text


class Event:
    """One server-sent event."""

    __slots__ = ("_data_at", "closes", "closes_all_of", "pieces", "raw", "whole")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """With its blank line."""
        self.pieces: list[Piece] = []
        self.closes: list[Channel] = []
        self.closes_all_of: int | str | None = None
        """Every channel with this second part is at its end."""
        self.whole: list[Said] = []
        """Texts that the event tells as a whole."""
        self._data_at = -1

    def data(self) -> dict[str, object] | None:
        """Its JSON object, or None for a comment, an end marker or something else."""
        at = 5 if self.raw.startswith(b"data:") else self.raw.find(b"\ndata:") + 6
        if at == 5 and not self.raw.startswith(b"data:"):
            return None
        payload = self.raw[at:].strip()
        if not payload.startswith(b"{"):
            return None
        try:
            value: object = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        self._data_at = at
        return cast("dict[str, object]", value)  # it starts with a brace

    def rewrite(self, changed: Mapping[Place, str]) -> None:
        """Other texts at some places of its JSON; the rest of the event stays."""
        payload = self.raw[self._data_at :].strip()
        self.raw = self.raw[: self._data_at] + b" " + texts.into_body(payload, changed) + b"\n\n"


def read(raw: bytes) -> Event:
    """Take an event apart, as far as its texts go."""
    event = Event(raw)
    data = event.data()
    if data is None:
        return event
    kind = data.get("type")
    if "choices" in data:
        _read_choices(event, data)
    elif isinstance(kind, str) and kind.startswith("content_block_"):
        _read_message_event(event, kind, data)
    elif isinstance(kind, str) and kind.startswith("response."):
        _read_response_event(event, kind, data)
    elif isinstance(kind, str) and kind.endswith(".delta"):
        _read_plain_delta(event, data)
    else:
        event.whole = texts.of_value(data, "assistant")
    return event


def _read_plain_delta(event: Event, data: dict[str, object]) -> None:
    """Transcription: `transcript.text.delta`."""
    delta = data.get("delta")
    if isinstance(delta, str) and delta:
        event.pieces.append(Piece(("assistant", 0, 0), delta, ("delta",)))


def _objects(value: object) -> list[dict[str, object]]:
    """The JSON objects in a JSON array; nothing for anything else."""
    if not isinstance(value, list):
        return []
    items = cast("list[object]", value)  # JSON holds nothing else
    return [
        cast("dict[str, object]", item) for item in items if isinstance(item, dict)
    ]  # JSON's keys are strings


def _object(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}  # JSON's keys are strings


def _index(value: object) -> int | str:
    return value if isinstance(value, int | str) else 0


def _read_choices(event: Event, data: dict[str, object]) -> None:
    """OpenAI's chat completions and completions."""
    for number, choice in enumerate(_objects(data.get("choices"))):
        index = _index(choice.get("index", number))
        text = choice.get("text")
        if isinstance(text, str) and text:
            event.pieces.append(Piece(("assistant", index, 0), text, ("choices", number, "text")))
        _read_delta(event, _object(choice.get("delta")), index, ("choices", number, "delta"))
        if choice.get("finish_reason") is not None:
            event.closes_all_of = index


def _read_delta(event: Event, delta: dict[str, object], index: int | str, place: Place) -> None:
    for key, text in delta.items():  # nearly always one
        role = _DELTA_ROLES.get(key)
        if role is not None and text and isinstance(text, str):
            event.pieces.append(Piece((role, index, 0), text, (*place, key)))
    if "tool_calls" not in delta:
        return
    for number, call in enumerate(_objects(delta["tool_calls"])):
        text = _object(call.get("function")).get("arguments")
        if isinstance(text, str) and text:
            channel = ("tool_call", index, _index(call.get("index", number)))
            event.pieces.append(Piece(channel, text, (*place, "tool_calls", number, "function", "arguments")))


def _read_message_event(event: Event, kind: str, data: dict[str, object]) -> None:
    """Anthropic's messages."""
    index = _index(data.get("index", 0))
    if kind == "content_block_delta":
        delta = _object(data.get("delta"))
        for key, role in _BLOCK_ROLES.items():
            text = delta.get(key)
            if isinstance(text, str) and text:
                event.pieces.append(Piece((role, index, 0), text, ("delta", key)))
    elif kind == "content_block_start":
        block = _object(data.get("content_block"))
        text = block.get("text")
        if isinstance(text, str) and text:
            event.pieces.append(Piece(("assistant", index, 0), text, ("content_block", "text")))
    elif kind == "content_block_stop":
        event.closes_all_of = index


def _read_response_event(event: Event, kind: str, data: dict[str, object]) -> None:
    """OpenAI's responses: deltas, and at the end of each part, item and response the whole text again."""
    item = _index(data.get("output_index", 0))
    part = _index(data.get("content_index", data.get("summary_index", 0)))
    role, delta = _response_role(kind), data.get("delta")
    if isinstance(delta, str):
        if delta:
            event.pieces.append(Piece((role, item, part), delta, ("delta",)))
        return
    if kind.endswith(".done"):
        if kind == "response.output_item.done":
            event.closes_all_of = item
        else:
            event.closes = [(role, item, part)]
    if (
        "response" in data
    ):  # the whole response: of what it echoes of the request nothing was said by the model
        data = {"response": {"output": _object(data["response"]).get("output")}}
    event.whole = texts.of_value(data, role)


def _response_role(kind: str) -> Role:
    if "reasoning" in kind:
        return "reasoning"
    if "arguments" in kind or "tool_call" in kind:
        return "tool_call"
    return "refusal" if "refusal" in kind else "assistant"
