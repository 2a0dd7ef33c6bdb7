"""OpenAI's endpoints as a script: `OpenAI` (any compatible vendor), `Azure` (its paths and its key), `Engine` (vLLM: usage in every
chunk when asked, thoughts, transcripts that look like chat chunks).

What it does not know: sockets (`scripted_vendor.py`), our own code for this wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from foundry.types.usage import UsageCounts
from tests.support.vendor_script import (
    CACHED,
    INPUT,
    KEY,
    OUTPUT,
    THOUGHT,
    THOUGHT_TOKENS,
    WORDS,
    Received,
    Told,
    sse,
)

Json = dict[str, Any]
TEXT = "".join(WORDS)
SOUND = (b"ID3" + b"\x01" * 100, b"\x02" * 100, b"\x03" * 100)
"""Speech, in as many pieces as there are words."""
SECONDS = 9
"""Of sound, where a transcription is charged by time (told with one kind of token only)."""
_DONE = b"data: [DONE]\n\n"


class OpenAI:
    """Chat, completions, responses, embeddings, rerank, moderations, transcription, speech, images."""

    provider = "openai"
    environment: tuple[tuple[str, str], ...] = (("OPENAI_API_KEY", KEY),)
    counts = UsageCounts(
        input_tokens=INPUT, cached_input_tokens=CACHED, output_tokens=OUTPUT, reasoning_tokens=THOUGHT_TOKENS
    )
    thinks = False
    """Thoughts come before the words."""

    def __init__(self, *, tells_unasked: bool = False) -> None:
        self._tells_unasked = tells_unasked

    def refuses(self, received: Received) -> tuple[int, str] | None:
        if received.headers.get("authorization") != f"Bearer {KEY}":
            return 401, "Incorrect API key provided"
        if "continuous_usage_stats" in (received.body.get("stream_options") or {}):
            return 400, "Unknown parameter: 'stream_options.continuous_usage_stats'"
        return None

    def model(self, received: Received) -> str:
        return received.body["model"]

    def streams(self, received: Received) -> bool:
        return received.body.get("stream") in (True, "true") or self._kind(received) == "speech"

    def stream_type(self, received: Received) -> str:
        return "audio/mpeg" if self._kind(received) == "speech" else "text/event-stream"

    def frames_before_words(self, received: Received) -> int:
        kind = self._kind(received)
        if kind == "responses":
            return 4
        return (kind in ("chat", "completions")) + self._thinks(received, kind)

    def whole(self, received: Received, told: Told | None) -> Json:
        kind = self._kind(received)
        made: dict[str, Json] = {
            "chat": self._choices({"message": {"role": "assistant", "content": TEXT}}),
            "completions": self._choices({"text": TEXT}),
            "embeddings": {"object": "list", "model": "m", "data": self._vectors(received)},
            "rerank": {"id": "rr1", "model": "m", "results": [{"index": 0, "relevance_score": 0.9}]},
            "moderations": {"id": "modr-1", "model": "m", "results": [_moderation()]},
            "transcription": {"text": TEXT},
            "images": {"created": 1, "data": [{"b64_json": "QQ=="}]},
        }
        if kind == "responses":
            return self._response("completed", [self._item("completed")], self._usage(kind, told))
        usage = self._usage(kind, told)
        return made[kind] | ({"usage": usage} if usage else {})

    def frames(self, received: Received, told: Told | None, *, fat: bool) -> list[bytes]:
        kind = self._kind(received)
        if kind == "speech":
            return list(SOUND)
        if kind == "responses":
            return self._response_events(told)
        if kind == "transcription":
            return self._transcript_events(received, told)
        if kind == "images":
            return self._image_events(told)
        return self._chunks(received, kind, told, fat=fat)

    def error(self, status: int, message: str) -> Json:
        return {"error": {"message": message, "type": "server_error", "param": None, "code": str(status)}}

    def error_frames(self, received: Received, message: str) -> list[bytes]:
        kind = self._kind(received)
        if kind == "responses":
            event = {"type": "error", "sequence_number": 9, "code": "server_error", "message": message}
            return [sse(event | {"param": None}, "error")]
        if kind in ("transcription", "images"):
            return [sse({"type": "error", "error": {"message": message}})]
        return [sse({"error": {"message": message, "code": 500}}), _DONE]

    def _thinks(self, received: Received, kind: str) -> bool:
        return self.thinks and kind == "chat" and not self.model(received).endswith("-plain")

    def _kind(self, received: Received) -> str:
        last = received.path.rpartition("/")[2]
        if last == "completions" and received.path.endswith("/chat/completions"):
            return "chat"
        if last in ("transcriptions", "translations"):
            return "transcription"
        return "images" if last in ("generations", "edits") else last

    def _choices(self, said: Json) -> Json:
        name = "chat.completion" if "message" in said else "text_completion"
        choice = {"index": 0, **said, "finish_reason": "stop"}
        return {"id": "c1", "object": name, "created": 1, "model": "m", "choices": [choice]}

    def _vectors(self, received: Received) -> list[Json]:
        given = received.body.get("input", "")
        texts = given if isinstance(given, list) else [given]
        return [{"object": "embedding", "index": i, "embedding": [0.5, -0.5]} for i, _ in enumerate(texts)]

    def _usage(self, kind: str, told: Told | None, *, spoken: int | None = None) -> Json | None:
        """What is told, in the shape of the endpoint; spoken: so far, in a stream."""
        if told is None or kind == "moderations":
            return None
        output = told.output if spoken is None else told.thought + spoken
        if kind in ("chat", "completions"):
            return _chat_usage(told, output)
        if kind == "embeddings":
            return {"prompt_tokens": told.input, "total_tokens": told.input}
        if kind == "rerank":
            return {"total_tokens": told.input}
        if kind == "transcription" and not told.cached:
            return {"type": "duration", "seconds": SECONDS}
        return _input_output_usage(kind, told, output)

    def _chunks(self, received: Received, kind: str, told: Told | None, *, fat: bool) -> list[bytes]:
        options = received.body.get("stream_options") or {}
        if not (options.get("include_usage") or self._tells_unasked):
            told = None
        running = bool(options.get("continuous_usage_stats"))
        said = _said_already(received)
        words = WORDS[said:]

        def chunk(part: str, finish: str | None, spoken: int | None, *, tell: bool) -> bytes:
            usage = self._usage(kind, told, spoken=spoken) if tell else None
            return _chunk(kind, part, finish, usage)

        begun = self._usage(kind, told, spoken=0) if running else None
        frames = [_chunk(kind, "", None, begun, member="role")]
        if self._thinks(received, kind):
            frames.append(_chunk(kind, THOUGHT, None, begun, member="reasoning"))
        for number, word in enumerate(words, 1):
            last = fat and number == len(words)
            frames.append(chunk(word, "stop" if last else None, number, tell=running or last))
        if not fat:
            frames.append(chunk("", "stop", len(words), tell=running))
            usage = self._usage(kind, told, spoken=len(words))
            if usage is not None:
                frames.append(sse({**_head(kind), "choices": [], "usage": usage}))
        return [*frames, _DONE]

    def _transcript_events(self, received: Received, told: Told | None) -> list[bytes]:
        usage = self._usage("transcription", told)
        done = {"type": "transcript.text.done", "text": TEXT, **({"usage": usage} if usage else {})}
        return [*(sse({"type": "transcript.text.delta", "delta": word}) for word in WORDS), sse(done)]

    def _image_events(self, told: Told | None) -> list[bytes]:
        usage = self._usage("images", told)
        shape = {"b64_json": "QQ==", "created_at": 1, "size": "1x1", "quality": "low", "background": "auto"}
        partial = {"type": "image_generation.partial_image", **shape, "output_format": "png"}
        done = {**partial, "type": "image_generation.completed", **({"usage": usage} if usage else {})}
        return [*(sse(partial | {"partial_image_index": i}) for i in range(len(WORDS))), sse(done)]

    def _response(self, status: str, output: list[Json], usage: Json | None) -> Json:
        return {
            "id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "m", "output": output,
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage,
        }  # fmt: skip

    def _item(self, status: str) -> Json:
        part = {"type": "output_text", "text": TEXT, "annotations": []}
        content = [part] if status == "completed" else []
        return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}

    def _response_events(self, told: Told | None) -> list[bytes]:
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        part = {"type": "output_text", "text": "", "annotations": []}
        item, done = self._item("in_progress"), self._item("completed")
        events: list[Json] = [
            {"type": "response.created", "response": self._response("in_progress", [], None)},
            {"type": "response.in_progress", "response": self._response("in_progress", [], None)},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.content_part.added", **place, "part": part},
            *(
                {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
                for word in WORDS
            ),
            {"type": "response.output_text.done", **place, "text": TEXT, "logprobs": []},
            {"type": "response.content_part.done", **place, "part": part | {"text": TEXT}},
            {"type": "response.output_item.done", "output_index": 0, "item": done},
            {
                "type": "response.completed",
                "response": self._response("completed", [done], self._usage("responses", told)),
            },
        ]
        return [sse(event | {"sequence_number": n}, event["type"]) for n, event in enumerate(events)]


class Azure(OpenAI):
    """Azure's key, and the deployment in the path (`provider` is that surface)."""

    provider = "azure-deployments"
    environment: tuple[tuple[str, str], ...] = (("AZURE_OPENAI_API_KEY", KEY),)

    def refuses(self, received: Received) -> tuple[int, str] | None:
        if received.headers.get("api-key") != KEY:
            return 401, "Access denied due to invalid subscription key"
        if "/deployments/" in received.path and "api-version" not in received.query:
            return 404, "Resource not found"
        return (404, "Resource not found") if received.path.endswith(("/rerank", "/moderations")) else None

    def model(self, received: Received) -> str:
        parts = unquote(received.path).split("/")
        return parts[3] if "/deployments/" in received.path else received.body["model"]

    def error(self, status: int, message: str) -> Json:
        return {"error": {"code": str(status), "message": message}}


class Engine(OpenAI):
    """vLLM behind our token: `provider` is none, the target is an engine."""

    provider = ""
    environment: tuple[tuple[str, str], ...] = ()
    thinks = True

    def refuses(self, received: Received) -> tuple[int, str] | None:
        scheme, _, token = received.headers.get("authorization", "").partition(" ")
        wrong = scheme != "Bearer" or not token or token == KEY or token.startswith("fk-")
        return (401, "Unauthorized") if wrong else None

    def _transcript_events(self, received: Received, told: Told | None) -> list[bytes]:
        tells = told is not None and received.body.get("stream_include_usage") == "true"
        running = tells and received.body.get("stream_continuous_usage_stats") == "true"
        head = {"id": "t1", "object": "transcription.chunk", "created": 1, "model": "m"}
        frames: list[bytes] = []
        for number, word in enumerate(WORDS, 1):
            usage = _chat_usage(told, number) if told and running else None
            choice = {"delta": {"content": word}, "finish_reason": None}
            frames.append(sse({**head, "choices": [choice], **({"usage": usage} if usage else {})}))
        if told and tells:
            frames.append(sse({**head, "choices": [], "usage": _chat_usage(told, told.output)}))
        return [*frames, _DONE]


def _said_already(received: Received) -> int:
    """Words of a begun answer that the request wants gone on from."""
    turns: Sequence[Json] = received.body.get("messages") or []
    if turns and turns[-1].get("role") == "assistant":
        return len(turns[-1]["content"].split())
    prompt = str(received.body.get("prompt", ""))
    return next((n for n in (2, 1) if prompt.endswith("".join(WORDS[:n]).rstrip())), 0)


def _head(kind: str) -> Json:
    name = "chat.completion.chunk" if kind == "chat" else "text_completion"
    return {"id": "c1", "object": name, "created": 1, "model": "m"}


def _chunk(kind: str, part: str, finish: str | None, usage: Json | None, *, member: str = "content") -> bytes:
    delta: Json = {"role": "assistant", "content": ""} if member == "role" else {member: part} if part else {}
    said: Json = {"text": part} if kind == "completions" else {"delta": delta}
    choice = {"index": 0, **said, "finish_reason": finish}
    return sse({**_head(kind), "choices": [choice], **({"usage": usage} if usage else {})})


def _chat_usage(told: Told, output: int) -> Json:
    usage: Json = {
        "prompt_tokens": told.input, "completion_tokens": output, "total_tokens": told.input + output,
    }  # fmt: skip
    if told.cached:
        usage["prompt_tokens_details"] = {"cached_tokens": told.cached}
    if told.thought:
        usage["completion_tokens_details"] = {"reasoning_tokens": told.thought}
    return usage


def _input_output_usage(kind: str, told: Told, output: int) -> Json:
    """Of responses, transcriptions and images; the latter two tell what is no text where others tell what was cached."""
    usage: Json = {
        "input_tokens": told.input, "output_tokens": output, "total_tokens": told.input + output,
    }  # fmt: skip
    text = told.input - told.cached
    if kind == "responses":
        usage["input_tokens_details"] = {"cached_tokens": told.cached}
        usage["output_tokens_details"] = {"reasoning_tokens": told.thought}
    elif kind == "transcription":
        usage["type"] = "tokens"
        usage["input_token_details"] = {"text_tokens": text, "audio_tokens": told.cached}
    elif told.cached:
        usage["input_tokens_details"] = {"text_tokens": text, "image_tokens": told.cached}
    return usage


def _moderation() -> Json:
    return {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
