"""The texts inside a request or a whole answer, with who says them and where they stand, and how changed ones are put back.

One walk for every protocol: within the members that reach a model, every string counts as text unless its key says that it is
something else (an id, a URL, an image's bytes); so a shape that is not known yet is still looked at. What it does not know:
guards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from foundry.codecs.base import Answer, Call
from foundry.errors import InvalidParameter, MalformedBody
from foundry.gateway.guardrails.base import Place, Role, Said

_SAID_IN: dict[str, Role] = {
    "messages": "user", "system": "system", "prompt": "user", "suffix": "user", "input": "user", "instructions": "system",
    "query": "user", "queries": "user", "documents": "user", "text_1": "user", "text_2": "user", "items": "user",
    "data_1": "user", "data_2": "user", "prediction": "user", "chat_template": "system", "chat_template_kwargs": "system",
    "tools": "tool_definition", "functions": "tool_definition",
}  # fmt: skip
"""Members of a request that reach a model, over all protocols, and who says what no closer name stands at."""
_SAID_OUT = ("choices", "output", "content", "text", "segments", "words", "output_text", "candidates")
"""Members of an answer that carry what a model said, over all protocols."""
_NOT_TEXT = frozenset(
    {
        "type", "role", "id", "call_id", "tool_call_id", "tool_use_id", "item_id", "url", "image_url", "data", "file_data",
        "file_url", "file_id", "format", "detail", "media_type", "signature", "encrypted_content", "cache_control", "status",
        "object", "finish_reason", "stop_reason", "model", "logprobs", "top_logprobs", "tokens", "index", "embedding",
    }
)  # fmt: skip
_BY_KEY: dict[str, Role] = {
    "reasoning": "reasoning", "reasoning_content": "reasoning", "thinking": "reasoning", "summary": "reasoning",
    "arguments": "tool_call", "refusal": "refusal", "name": "name", "annotations": "annotation",
}  # fmt: skip
_BY_TYPE: dict[str, Role] = {
    "tool_result": "tool", "function_call_output": "tool", "custom_tool_call_output": "tool", "tool_use": "tool_call",
    "server_tool_use": "tool_call", "function_call": "tool_call", "reasoning": "reasoning", "thinking": "reasoning",
}  # fmt: skip
_FREE = frozenset({"tool_use", "server_tool_use"})
"""Parts whose `input` is JSON of the tool's own: there, no key means anything."""
_CAN_BE_TOKENS = ("prompt", "input")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()


def of_call(call: Call) -> list[Said]:
    """Every text of a request. Raises MalformedBody, and InvalidParameter for token ids, which no guard can read."""
    found: list[Said] = []
    for name, role in _SAID_IN.items():
        raw = call.fields.get(name)
        if raw is not None:
            value = _decoded(raw, name)
            if name in _CAN_BE_TOKENS and _has_token_ids(value):
                raise InvalidParameter(
                    f"'{name}' holds token ids, which this route's guardrails cannot read: send text",
                    param=name,
                )
            _walk_in(value, role, (name,), found)
    return found


def into_call(call: Call, changed: Mapping[Place, str]) -> Call:
    """The request with other texts at some places; every other value keeps its bytes."""
    fields = dict(call.fields)
    for place, text in changed.items():
        name = str(place[0])
        fields[name] = _put(fields[name], place[1:], text)
    return msgspec.structs.replace(call, fields=fields)


def of_answer(answer: Answer) -> list[Said]:
    """Every text that a model said in a whole answer; none in sound, images and embeddings."""
    if answer.content_type.startswith("text/"):
        return [Said(answer.body.decode(errors="replace"), "assistant")]
    if "json" not in answer.content_type:
        return []
    try:
        fields = _members.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [Said(answer.body.decode(errors="replace"), "assistant")]
    found: list[Said] = []
    for name in ("output",) if "output" in fields else _SAID_OUT:
        raw = fields.get(name)
        if raw is not None:
            _walk_in(_decoded(raw, name), "assistant", (name,), found)
    return found


def of_value(value: object, role: Role) -> list[Said]:
    """Every text in a piece of JSON that a model's answer is made of, such as an event of a stream."""
    found: list[Said] = []
    _walk(value, role, (), found)
    return found


def into_answer(answer: Answer, changed: Mapping[Place, str]) -> Answer:
    """The answer with other texts at some places. Log-probabilities go: they spell out what was said."""
    if () in changed:
        return msgspec.structs.replace(answer, body=changed[()].encode())
    return msgspec.structs.replace(answer, body=into_body(answer.body, changed))


def into_body(body: bytes, changed: Mapping[Place, str]) -> bytes:
    """The same for a JSON object, as bytes."""
    raw = msgspec.Raw(body)
    for place, text in changed.items():
        raw = _put(raw, place, text)
    return bytes(raw)


def redacted(text: str, spans: Iterable[tuple[int, int, str]]) -> str:
    """The text with every span replaced by its label in angle brackets; overlapping spans become one."""
    parts: list[str] = []
    at = 0
    for start, end, label in merged(spans):
        parts += (text[at:start], f"<{label}>")
        at = end
    parts.append(text[at:])
    return "".join(parts)


def merged(spans: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """In order, without overlaps; the longest of the overlapping ones lends its label."""
    result: list[tuple[int, int, str]] = []
    for start, end, label in sorted(spans):
        if result and start < result[-1][1]:
            first, last, known = result[-1]
            longest = label if end - start > last - first else known
            result[-1] = (first, max(last, end), longest)
        else:
            result.append((start, end, label))
    return result


def _decoded(raw: msgspec.Raw, name: str) -> object:
    try:
        value: object = msgspec.json.decode(raw)
    except RecursionError as error:
        raise MalformedBody(f"'{name}' is nested too deeply", param=name) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"'{name}' is not valid JSON: {error}", param=name) from error
    return value


def _has_token_ids(value: object) -> bool:
    return isinstance(value, list) and any(
        isinstance(item, int | list)
        for item in cast("list[object]", value)  # JSON holds nothing else
    )


def _walk_in(value: object, role: Role, place: Place, found: list[Said]) -> None:
    try:
        _walk(value, role, place, found)
    except RecursionError as error:
        raise MalformedBody(f"'{place[0]}' is nested too deeply", param=str(place[0])) from error


def _walk(value: object, role: Role, place: Place, found: list[Said]) -> None:
    if isinstance(value, str):
        if value:
            found.append(Said(value, role, place))
    elif isinstance(value, list):
        for number, item in enumerate(cast("list[object]", value)):  # JSON holds nothing else
            _walk(item, role, (*place, number), found)
    elif isinstance(value, dict):
        _walk_object(cast("dict[str, object]", value), role, place, found)  # JSON's keys are strings


def _walk_object(value: dict[str, object], role: Role, place: Place, found: list[Said]) -> None:
    if role == "tool_definition":
        _walk_definition(value, place, found)
        return
    named, kind = value.get("role"), value.get("type")
    if isinstance(named, str):
        role = named
    if isinstance(kind, str):
        role = _BY_TYPE.get(kind, role)
    for key, item in value.items():
        if key == "input" and kind in _FREE:
            _walk_free(item, (*place, key), found)
        elif key not in _NOT_TEXT or (key == "data" and kind == "text"):
            _walk(item, _BY_KEY.get(key, role), (*place, key), found)


def _walk_free(value: object, place: Place, found: list[Said]) -> None:
    if isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():  # JSON's keys are strings
            _walk_free(item, (*place, key), found)
    elif isinstance(value, list):
        for number, item in enumerate(cast("list[object]", value)):  # JSON holds nothing else
            _walk_free(item, (*place, number), found)
    elif isinstance(value, str) and value:
        found.append(Said(value, "tool_call", place))


def _walk_definition(value: dict[str, object], place: Place, found: list[Said]) -> None:
    """Of a tool's definition only the descriptions are prose."""
    for key, item in value.items():
        if key == "description" and isinstance(item, str) and item:
            found.append(Said(item, "tool_definition", (*place, key)))
        elif isinstance(item, dict | list):
            _walk(cast("object", item), "tool_definition", (*place, key), found)  # narrowed further inside


def _put(raw: msgspec.Raw, place: Place, text: str) -> msgspec.Raw:
    if not place:
        return msgspec.Raw(_encoder.encode(text))
    step = place[0]
    if isinstance(step, int):
        items = _items.decode(raw)
        items[step] = _put(items[step], place[1:], text)
        return msgspec.Raw(_encoder.encode(items))
    members = _members.decode(raw)
    members[step] = _put(members[step], place[1:], text)
    if "logprobs" in members:
        members["logprobs"] = msgspec.Raw(b"null")
    return msgspec.Raw(_encoder.encode(members))
