"""Chat completions and completions as streams of chunks and back.

What it does not know: other protocols, caches, I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from foundry.codecs.base import Call
from foundry.codecs.chat_answer import usage_of
from foundry.codecs.replay_pieces import (
    Object,
    encode,
    events_of,
    joined,
    members,
    merged,
    number_of,
    objects,
    pieces,
    read_object,
    text_of,
)
from foundry.types.usage import UsageCounts

_DONE = b"data: [DONE]\n\n"
_REPLACED = frozenset({"role", "index", "id", "type", "finish_reason", "stop_reason", "matched_stop"})
"""Members that later chunks repeat and do not go on."""
Deltas = Callable[[Object], Iterator[Object]]
_TEXTS = ("reasoning", "reasoning_content", "refusal", "content")


def _whole(stream: bytes, kind: str, counts: UsageCounts | None) -> bytes | None:
    """Chunks as one answer; None unless the stream ended well."""
    events = events_of(stream)
    if not events or events[-1] != b"[DONE]":
        return None
    head: Object = {}
    choices: dict[int, Object] = {}
    for event in events[:-1]:
        chunk = read_object(event)
        if chunk is None or "error" in chunk:
            return None
        for choice in objects(chunk.pop("choices", None)):
            index = number_of(choice.get("index"))
            choices[index] = _joined_choice(choices.get(index, {"index": index}), choice)
        head |= {name: value for name, value in chunk.items() if value is not None}
    if counts is not None:
        head.setdefault("usage", usage_of(counts))
    return encode({**head, "object": kind, "choices": [choices[index] for index in sorted(choices)]})


def _joined_choice(so_far: Object, chunk: Object) -> Object:
    delta = members(chunk.pop("delta", None))
    for name, value in chunk.items():
        replaces = name in _REPLACED or name not in so_far
        so_far[name] = (
            (so_far.get(name) if value is None else value) if replaces else joined(so_far[name], value)
        )
    if delta:
        so_far["message"] = _joined_message(members(so_far.get("message")), delta)
    return so_far


def _joined_message(message: Object, delta: Object) -> Object:
    calls = objects(delta.pop("tool_calls", None))
    for name, value in delta.items():
        replaces = name in _REPLACED or message.get(name) is None
        message[name] = value if replaces else joined(message[name], value)
    for call in calls:
        message["tool_calls"] = _joined_calls(objects(message.get("tool_calls")), call)
    return message


def _joined_calls(calls: list[Object], piece: Object) -> list[Object]:
    index = number_of(piece.pop("index", None))
    while len(calls) <= index:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[index]
    function, more = members(call["function"]), members(piece.pop("function", None))
    if name := more.pop("name", None):  # some servers repeat it
        function["name"] = name
    call["function"] = merged(function, more)
    calls[index] = {**call, **{name: value for name, value in piece.items() if value is not None}}
    return calls


def _stream(whole: bytes, call: Call, kind: str, deltas: Deltas) -> list[bytes]:
    answer = read_object(whole)
    if answer is None:
        return [b"data: " + whole + b"\n\n", _DONE]
    choices, usage = objects(answer.pop("choices", None)), answer.pop("usage", None)
    head = {**answer, "object": kind}
    events = [_event({**head, "choices": [delta]}) for choice in choices for delta in deltas(choice)]
    if call.wants_usage and usage is not None:
        events.append(_event({**head, "choices": [], "usage": usage}))
    return [*events, _DONE]


def _event(value: Object) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def _chat_deltas(choice: Object) -> Iterator[Object]:
    """A choice as a stream would have brought it: the role, thoughts and text in pieces, calls, the end."""
    index, message = choice.pop("index", 0), members(choice.pop("message", None))
    finish, logprobs = choice.pop("finish_reason", "stop"), choice.pop("logprobs", None)
    texts = {name: text_of(message.pop(name, None)) for name in _TEXTS}
    calls = objects(message.pop("tool_calls", None))
    yield _delta(index, {"role": "assistant", "content": "", **message})
    for name in _TEXTS:
        for piece in pieces(texts[name]):
            told, logprobs = (logprobs, None) if name == "content" else (None, logprobs)
            yield _delta(index, {name: piece}, told)
    for number, call in enumerate(calls):
        yield from _call_deltas(index, number, call)
    yield {**choice, **_delta(index, {}, logprobs), "finish_reason": finish}


def _delta(index: object, delta: Object, logprobs: object = None) -> Object:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _call_deltas(index: object, number: int, call: Object) -> Iterator[Object]:
    function = members(call.pop("function", None))
    arguments = text_of(function.pop("arguments", None))
    first = {"index": number, **call, "function": {**function, "arguments": ""}}
    yield _delta(index, {"tool_calls": [first]})
    for piece in pieces(arguments):
        yield _delta(index, {"tool_calls": [{"index": number, "function": {"arguments": piece}}]})


def _text_deltas(choice: Object) -> Iterator[Object]:
    """A completion's choice: its text in pieces (in one, if it has logprobs, whose offsets count within it), the end."""
    index, text, logprobs = (
        choice.pop("index", 0),
        text_of(choice.pop("text", None)),
        choice.pop("logprobs", None),
    )
    finish = choice.pop("finish_reason", "stop")
    for piece in [text] if logprobs is not None else pieces(text):
        yield {"index": index, "text": piece, "logprobs": logprobs, "finish_reason": None}
    yield {**choice, "index": index, "text": "", "logprobs": None, "finish_reason": finish}


class ChatReplay:
    """Chat completions."""

    def whole(self, stream: bytes, counts: UsageCounts | None) -> bytes | None:
        """Chunks as a completion."""
        return _whole(stream, "chat.completion", counts)

    def stream(self, whole: bytes, call: Call) -> list[bytes]:
        """A completion as chunks."""
        return _stream(whole, call, "chat.completion.chunk", _chat_deltas)


class CompletionsReplay:
    """Completions."""

    def whole(self, stream: bytes, counts: UsageCounts | None) -> bytes | None:
        """Chunks as a completion."""
        return _whole(stream, "text_completion", counts)

    def stream(self, whole: bytes, call: Call) -> list[bytes]:
        """A completion as chunks."""
        return _stream(whole, call, "text_completion", _text_deltas)
