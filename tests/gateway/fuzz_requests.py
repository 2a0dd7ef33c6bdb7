"""Valid requests to everything that the gateway serves, and cases made of them. What it does not know: how they are sent."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from foundry.codecs import CODECS
from foundry.gateway.surface import Surface
from tests.gateway import mutations
from tests.gateway.fuzz_rig import Case, Rig, route_names
from tests.support.forms import CONTENT_TYPE, form, silence

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "", "\u00e9")
_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "strict": True,
         "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}}  # fmt: skip
_PICTURE = "data:image/png;base64,iVBORw0KGgo="
_TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "name": "n", "content": [{"type": "text", "text": "hi"},
        {"type": "image_url", "image_url": {"url": _PICTURE, "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}]},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "done"},
]  # fmt: skip
_CHAT: dict[str, Any] = {
    "messages": _TURNS, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5, "top_p": 0.9, "max_tokens": 5,
    "n": 1, "stop": ["x"], "seed": 7, "logprobs": True, "top_logprobs": 2, "tools": [_TOOL], "tool_choice": "auto", "user": "u",
    "parallel_tool_calls": True, "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
    "reasoning_effort": "low", "metadata": {"a": "b"},
}  # fmt: skip
_MESSAGES: dict[str, Any] = {
    "max_tokens": 5, "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}], "stream": True,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "done"}]}]},
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}], "tool_choice": {"type": "auto"}, "top_k": 4,
    "thinking": {"type": "enabled", "budget_tokens": 1024}, "metadata": {"user_id": "u"}, "stop_sequences": ["x"],
}  # fmt: skip
_RESPONSES: dict[str, Any] = {
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": _PICTURE}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"}],
    "instructions": "be brief", "stream": True, "store": False,
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    "tool_choice": "auto", "max_output_tokens": 5, "reasoning": {"effort": "low", "summary": "auto"}, "text": {"format": {"type": "text"}},
    "include": ["reasoning.encrypted_content"], "previous_response_id": None, "truncation": "auto", "metadata": {"a": "b"},
}  # fmt: skip
_RANKED = {"query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": True}
_SCORED = {"text_1": "q", "text_2": ["a", "b"], "queries": "q", "items": ["a"]}
BODIES: dict[str, dict[str, Any]] = {
    "chat": _CHAT,
    "completions": {"prompt": ["hi", "ho"], "stream": True, "max_tokens": 5, "echo": True, "suffix": "s", "logprobs": 1, "best_of": 1},
    "embeddings": {"input": ["hi", "ho"], "dimensions": 8, "encoding_format": "float", "user": "u"},
    "messages": _MESSAGES,
    "count_tokens": {key: _MESSAGES[key] for key in ("messages", "system", "tools")},
    "responses": _RESPONSES,
    "moderations": {"input": [{"type": "text", "text": "hi"}]},
    "classify": {"input": ["hi"]},
    "rerank": _RANKED,
    "score": _SCORED,
    "speech": {"input": "hi", "voice": "alloy", "response_format": "mp3", "speed": 1.0, "stream_format": "audio"},
    "image_generation": {"prompt": "a cat", "n": 1, "size": "1024x1024", "stream": False, "quality": "low"},
    "batches": {"input_file_id": "file_x", "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"a": "b"}},
}  # fmt: skip
_FILE = ("a.wav", silence(0.1))
FORMS: dict[str, tuple[tuple[str, Any], ...]] = {
    "transcription": (("file", _FILE), ("language", "en"), ("response_format", "json"), ("temperature", "0.1"), ("stream", "true"),
                      ("timestamp_granularities[]", "word")),
    "translation": (("file", _FILE), ("prompt", "p"), ("response_format", "verbose_json")),
    "image_edit": (("image", ("a.png", b"\x89PNG")), ("mask", ("m.png", b"\x89PNG")), ("prompt", "a cat"), ("n", "1"), ("size", "256x256")),
    "image_variation": (("image", ("a.png", b"\x89PNG")), ("n", "2")),
    "files": (("purpose", "batch"), ("file", ("b.jsonl", b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{}}\n'))),
}  # fmt: skip
_NEEDED = ("max_tokens", "messages", "input", "prompt", "query", "documents", "text_1", "text_2", "voice")
JSON_TYPE = (b"content-type", b"application/json")
FORM_TYPE = (b"content-type", CONTENT_TYPE.encode())


def table(surface: Surface) -> list[tuple[str, str, str]]:
    """Method, path pattern and protocol of everything served, and what is served to everybody."""
    return [*surface.walk(), ("GET", "/healthz", "health")]


def models_for(protocol: str) -> list[str]:
    """The routes that serve it."""
    tasks = next((codec.tasks for codec in CODECS.values() if codec.name == protocol), ())
    return [name for name, task in route_names().items() if task in tasks] or ["own-generate"]


def mutated(random: Random, rig: Rig, row: tuple[str, str, str]) -> Case:
    """A request to one endpoint that is wrong somewhere: most often in its body, else in what is around it."""
    method, pattern, protocol = row
    path = pattern.replace("{id}", random.choice(mutations.IDS)).replace(
        "{name}", random.choice(mutations.IDS)
    )
    content_type, body = _body(random, protocol, wrong=random.random() < 0.85)
    headers = list(rig.headers(content_type))
    query, leaves = b"", False
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        kind = random.randrange(7)
        if kind == 0:
            method = random.choice(METHODS)
        elif kind == 1:
            path = random.choice(
                (
                    path + "/",
                    path + "\x00",
                    "/" + path,
                    path.upper(),
                    path + "/" + random.choice(mutations.IDS),
                    "",
                )
            )
        elif kind == 2:
            query = random.choice(mutations.QUERIES)
        elif kind == 3:
            leaves = True
        elif kind == 4:
            headers.pop(random.randrange(len(headers)))
        else:
            headers.append(random.choice(mutations.HEADERS))
    return Case(method, path, tuple(headers), mutations.pieces_of(random, body), query, leaves)


def _body(random: Random, protocol: str, *, wrong: bool) -> tuple[tuple[bytes, bytes], bytes]:
    model = random.choice(models_for(protocol))
    if protocol in FORMS:
        return FORM_TYPE, _form(random, protocol, model, wrong=wrong)
    value = BODIES.get(protocol, {"a": 1}) | {"model": model}
    if random.random() < 0.4:
        value = {
            key: one
            for key, one in value.items()
            if key in {"model", "messages", "input", "prompt"} or random.random() < 0.6
        }
    if "stream" in value and random.random() < 0.4:
        value["stream"] = False
    return JSON_TYPE, mutations.json_of(random, value) if wrong else json.dumps(value).encode()


def _form(random: Random, protocol: str, model: str, *, wrong: bool) -> bytes:
    fields = [*FORMS[protocol], ("model", model)]
    if wrong and random.random() < 0.5:
        place = random.randrange(len(fields))
        name, value = fields[place]
        odd = random.choice(("", "\x00", "-1", "9" * 400, "é", "true", "[]", "x\r\ny", "nan"))
        fields[place] = random.choice(
            ((name, odd), (odd, value), (name, ('a"b.wav', odd.encode())), (name + "[]", value))
        )
        if random.random() < 0.3:
            fields.append(random.choice(fields))
        return form(*fields, closed=random.random() < 0.9)
    body = form(*fields)
    return mutations.bytes_of(random, body) if wrong else body


def right(random: Random, rig: Rig, protocol: str, path: str, model: str) -> Case:
    """A valid request, streamed or not."""
    if protocol in FORMS:
        return Case("POST", path, rig.headers(FORM_TYPE), (form(*FORMS[protocol], ("model", model)),))
    value = {"model": model} | {key: BODIES[protocol][key] for key in _NEEDED if key in BODIES[protocol]}
    if protocol == "chat":
        value["messages"] = [{"role": "user", "content": "hi"}]
    if "stream" in BODIES[protocol]:
        value["stream"] = random.random() < 0.6
    return Case("POST", path, rig.headers(JSON_TYPE), (json.dumps(value).encode(),))
