"""Anthropic messages as streams of events and back.

What it does not know: other protocols, caches, I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from foundry.codecs.anthropic_answer import usage_of
from foundry.codecs.base import Call
from foundry.codecs.replay_pieces import (
    Object,
    encode,
    events_of,
    members,
    number_of,
    objects,
    pieces,
    read_object,
    text_of,
)
from foundry.codecs.sse import named_event
from foundry.types.usage import UsageCounts

_TEXTS = {"text_delta": "text", "thinking_delta": "thinking"}
"""Kind of delta to the member of block and delta that goes on."""
_SAID_LATER = {"text": "text_delta", "thinking": "thinking_delta"}
"""Kind of block to the kind of its deltas; the member has the block's name."""


class MessagesReplay:
    """Anthropic messages."""

    def whole(self, stream: bytes, counts: UsageCounts | None) -> bytes | None:
        """Events as a message."""
        message: Object = {}
        blocks: dict[int, Object] = {}
        inputs: dict[int, str] = {}
        kinds: set[object] = set()
        for data in events_of(stream):
            event = read_object(data)
            if event is None or event.get("type") == "error":
                return None
            kinds.add(event.get("type"))
            message = _noted(event, message, blocks, inputs)
        if not {"message_start", "message_stop"} <= kinds:
            return None
        for index, written in inputs.items():
            blocks[index]["input"] = msgspec.Raw(written.encode())
        if counts is not None:
            message["usage"] = {**members(message.get("usage")), **usage_of(counts)}
        return encode({**message, "content": [blocks[index] for index in sorted(blocks)]})

    def stream(self, whole: bytes, call: Call) -> list[bytes]:
        """A message as events."""
        del call
        message = read_object(whole)
        if message is None:
            return [b"data: " + whole + b"\n\n"]
        return [named_event(text_of(event["type"]), event) for event in _events(message)]


def _noted(event: Object, message: Object, blocks: dict[int, Object], inputs: dict[int, str]) -> Object:
    """The message with what an event says; blocks and their written inputs are changed in place."""
    index, delta = number_of(event.get("index")), members(event.get("delta"))
    match event.get("type"):
        case "message_start":
            return members(event.get("message"))
        case "content_block_start":
            blocks[index] = members(event.get("content_block"))
        case "content_block_delta" if index in blocks:
            _grow(index, blocks[index], delta, inputs)
        case "message_delta":
            told = {name: value for name, value in members(event.get("usage")).items() if value is not None}
            return {**message, **delta, "usage": {**members(message.get("usage")), **told}}
        case _:
            pass
    return message


def _grow(index: int, block: Object, delta: Object, inputs: dict[int, str]) -> None:
    kind = text_of(delta.get("type"))
    if kind in _TEXTS:
        name = _TEXTS[kind]
        block[name] = text_of(block.get(name)) + text_of(delta.get(name))
    elif kind == "signature_delta":
        block["signature"] = delta.get("signature")
    elif kind == "citations_delta":
        block["citations"] = [*objects(block.get("citations")), delta.get("citation")]
    elif kind == "input_json_delta" and delta.get("partial_json"):
        inputs[index] = inputs.get(index, "") + text_of(delta.get("partial_json"))


def _events(message: Object) -> Iterator[Object]:
    blocks, usage = objects(message.get("content")), members(message.get("usage"))
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": {**begun, "usage": {**usage, "output_tokens": 0}}}
    yield {"type": "ping"}
    for index, block in enumerate(blocks):
        start, deltas = _taken_apart(block)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    if message.get("stop_details") is not None:
        delta["stop_details"] = message["stop_details"]
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


def _taken_apart(block: Object) -> tuple[Object, list[Object]]:
    """How a block begins, and its deltas. Blocks of other kinds come whole."""
    kind = text_of(block.get("type"))
    if kind in _SAID_LATER:
        start: Object = {**block, kind: ""}
        deltas: list[Object] = [
            {"type": _SAID_LATER[kind], kind: piece} for piece in pieces(text_of(block.get(kind)))
        ]
        if kind == "thinking":
            start["signature"] = ""
            deltas.append({"type": "signature_delta", "signature": block.get("signature", "")})
        cited = objects(start.pop("citations", None))
        deltas.extend({"type": "citations_delta", "citation": citation} for citation in cited)
        return start, deltas
    if kind not in ("tool_use", "server_tool_use"):
        return block, []
    written = encode(block.get("input", {})).decode()
    return {**block, "input": {}}, [
        {"type": "input_json_delta", "partial_json": piece} for piece in pieces(written)
    ]
