"""Responses as streams of events and back.

The last event of a stream holds the whole response, so that way is short. What it does not know: other protocols, caches, I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from foundry.codecs.base import Call
from foundry.codecs.replay_pieces import (
    Object,
    encode,
    events_of,
    members,
    objects,
    pieces,
    read_object,
    text_of,
)
from foundry.codecs.responses_object import usage_of
from foundry.codecs.sse import named_event
from foundry.types.usage import UsageCounts

_LAST = ("response.completed", "response.incomplete")
_PARTS = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "reasoning_text": ("response.reasoning_text", "text"),
}
"""Kind of a part to the stem of its events and the member that holds its text."""


class ResponsesReplay:
    """Responses."""

    def whole(self, stream: bytes, counts: UsageCounts | None) -> bytes | None:
        """The response in the last event."""
        events = [event for event in events_of(stream) if event != b"[DONE]"]
        last = read_object(events[-1]) if events else None
        if last is None or last.get("type") not in _LAST:
            return None
        response = members(last.get("response"))
        if response.get("usage") is None and counts is not None:
            response["usage"] = usage_of(counts)
        return encode(response)

    def stream(self, whole: bytes, call: Call) -> list[bytes]:
        """A response as events."""
        del call
        response = read_object(whole)
        if response is None:
            return [b"data: " + whole + b"\n\n"]
        numbered = ({**event, "sequence_number": number} for number, event in enumerate(_events(response)))
        return [named_event(text_of(event["type"]), event) for event in numbered]


def _events(response: Object) -> Iterator[Object]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "completed_at": None}
    begun["incomplete_details"] = None
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for position, item in enumerate(objects(response.get("output"))):
        yield {"type": "response.output_item.added", "output_index": position, "item": _begun_item(item)}
        place = {"item_id": item.get("id"), "output_index": position}
        yield from _content_events(item, place)
        yield {"type": "response.output_item.done", "output_index": position, "item": item}
    last = "response.incomplete" if response.get("status") == "incomplete" else "response.completed"
    yield {"type": last, "response": response}


def _begun_item(item: Object) -> Object:
    begun = {**item, "status": "in_progress"} if "status" in item else dict(item)
    if "arguments" in begun:
        begun["arguments"] = ""
    return {**begun, "content": []} if "content" in begun else begun


def _content_events(item: Object, place: Object) -> Iterator[Object]:
    if item.get("type") == "function_call":
        stem, arguments = "response.function_call_arguments", text_of(item.get("arguments"))
        for piece in pieces(arguments):
            yield {"type": f"{stem}.delta", **place, "delta": piece}
        yield {"type": f"{stem}.done", **place, "arguments": arguments, "name": item.get("name")}
    for index, part in enumerate(objects(item.get("content"))):
        yield from _part_events(part, {**place, "content_index": index})


def _part_events(part: Object, place: Object) -> Iterator[Object]:
    kind = text_of(part.get("type"))
    if kind not in _PARTS:
        return
    stem, member = _PARTS[kind]
    text, is_said = text_of(part.get(member)), kind == "output_text"
    begun = {**part, member: ""}
    if is_said:
        begun |= {"annotations": [], "logprobs": []}
    yield {"type": "response.content_part.added", **place, "part": begun}
    logprobs: object = part.get("logprobs") or []
    for piece in pieces(text):
        delta: Object = {"type": f"{stem}.delta", **place, "delta": piece}
        yield {**delta, "logprobs": logprobs} if is_said else delta
        logprobs = []
    done: Object = {"type": f"{stem}.done", **place, member: text}
    yield {**done, "logprobs": part.get("logprobs") or []} if is_said else done
    yield {"type": "response.content_part.done", **place, "part": part}
