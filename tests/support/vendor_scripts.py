"""How each native wire but Bedrock's and OpenAI's looks: answers after the vendors' documented examples, with counts of every kind
that they tell.

What it does not know: sockets (`scripted_vendor.py`), our own code for these wires.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from foundry.types.usage import UsageCounts
from tests.support.bedrock_script import Bedrock
from tests.support.openai_script import Azure, Engine, OpenAI
from tests.support.vendor_script import (
    CACHED,
    INPUT,
    KEY,
    OUTPUT,
    SPOKEN,
    THOUGHT,
    THOUGHT_TOKENS,
    WORDS,
    WRITTEN,
    Received,
    Script,
    Told,
    sse,
)


class Anthropic:
    """Messages."""

    provider = "anthropic"
    environment = (("ANTHROPIC_API_KEY", KEY),)
    counts = UsageCounts(
        input_tokens=INPUT,
        cached_input_tokens=CACHED,
        cache_write_tokens=WRITTEN,
        output_tokens=OUTPUT,
        reasoning_tokens=THOUGHT_TOKENS,
    )

    def refuses(self, received: Received) -> tuple[int, str] | None:
        if received.headers.get("x-api-key") != KEY:
            return 401, "invalid x-api-key"
        if "anthropic-version" not in received.headers:
            return 400, "anthropic-version: header is required"
        if "count_tokens" not in received.path and not isinstance(received.body.get("max_tokens"), int):
            return 400, "max_tokens: Field required"
        return None

    def model(self, received: Received) -> str:
        return received.body["model"]

    def streams(self, received: Received) -> bool:
        return bool(received.body.get("stream"))

    def stream_type(self, received: Received) -> str:
        return "text/event-stream; charset=utf-8"

    def frames_before_words(self, received: Received) -> int:
        return 5

    def whole(self, received: Received, told: Told | None) -> dict[str, Any]:
        if received.path.endswith("count_tokens"):
            return {"input_tokens": INPUT}
        content = [
            {"type": "thinking", "thinking": THOUGHT, "signature": "c2ln"},
            {"type": "text", "text": "".join(WORDS)},
        ]
        usage = {"usage": {**self._usage(told), **self._made(told)}} if told else {}
        return self._message(content, "end_turn") | usage

    def frames(self, received: Received, told: Told | None, *, fat: bool) -> list[bytes]:
        begun = {"usage": {**self._usage(told), "output_tokens": 1}} if told else {}
        start = self._message([], None) | begun
        text = {"type": "text", "text": ""}
        made = {"usage": self._made(told)} if told else {}
        end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, **made}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": start},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "thinking", "thinking": ""},
            },
            self._delta(0, {"type": "thinking_delta", "thinking": THOUGHT}),
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": text},
            *(self._delta(1, {"type": "text_delta", "text": word}) for word in WORDS),
            {"type": "content_block_stop", "index": 1},
            end,
            {"type": "message_stop"},
        ]
        return [sse(event, event["type"]) for event in events]

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": "api_error", "message": message}, "request_id": "req_1"}

    def error_frames(self, received: Received, message: str) -> list[bytes]:
        return [sse({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")]

    def _message(self, content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content}
        return {**head, "stop_reason": stop, "stop_sequence": None}

    def _usage(self, told: Told) -> dict[str, int]:
        cache = {"cache_read_input_tokens": told.cached, "cache_creation_input_tokens": told.written}
        return {"input_tokens": told.plain, **cache}

    def _made(self, told: Told) -> dict[str, Any]:
        thought = {"output_tokens_details": {"thinking_tokens": told.thought}} if told.thought else {}
        return {"output_tokens": told.output, **thought}

    def _delta(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": delta}


class Gemini:
    """generateContent, streamGenerateContent, batchEmbedContents."""

    provider = "gemini"
    environment = (("GEMINI_API_KEY", KEY),)
    counts = UsageCounts(
        input_tokens=INPUT, cached_input_tokens=CACHED, output_tokens=OUTPUT, reasoning_tokens=THOUGHT_TOKENS
    )
    _members = frozenset(
        {
            "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings", "cachedContent",
            "labels", "requests",
        }
    )  # fmt: skip
    _config = frozenset(
        {
            "maxOutputTokens", "temperature", "topP", "topK", "stopSequences", "candidateCount", "seed", "presencePenalty",
            "frequencyPenalty", "responseLogprobs", "logprobs", "thinkingConfig", "responseMimeType", "responseJsonSchema",
        }
    )  # fmt: skip

    def refuses(self, received: Received) -> tuple[int, str] | None:
        if received.headers.get("x-goog-api-key") != KEY:
            return 400, "API key not valid. Please pass a valid API key."
        unknown = set(received.body) - self._members
        unknown |= set(received.body.get("generationConfig", {})) - self._config
        if unknown:
            return 400, f'Invalid JSON payload received. Unknown name "{unknown.pop()}"'
        if self.streams(received) and received.query.get("alt") != "sse":
            return 400, "this double speaks server-sent events only"
        return None

    def model(self, received: Received) -> str:
        return unquote(received.path).rpartition("/")[2].partition(":")[0]

    def streams(self, received: Received) -> bool:
        return received.path.endswith(":streamGenerateContent")

    def stream_type(self, received: Received) -> str:
        return "text/event-stream"

    def frames_before_words(self, received: Received) -> int:
        return 1

    def whole(self, received: Received, told: Told | None) -> dict[str, Any]:
        if received.path.endswith(":batchEmbedContents"):
            return {"embeddings": [{"values": [0.5, -0.5]} for _ in received.body["requests"]]}
        parts = [{"text": THOUGHT, "thought": True}, {"text": "".join(WORDS)}]
        return self._chunk(parts, "STOP", self._usage(told, SPOKEN) if told else None)

    def frames(self, received: Received, told: Told | None, *, fat: bool) -> list[bytes]:
        thought = self._usage(told, 0) if told else None
        chunks = [self._chunk([{"text": THOUGHT, "thought": True}], None, thought)]
        for number, word in enumerate(WORDS, 1):
            stop = "STOP" if number == len(WORDS) else None
            chunks.append(self._chunk([{"text": word}], stop, self._usage(told, number) if told else None))
        return [sse(chunk).replace(b"\n", b"\r\n") for chunk in chunks]  # as Google sends them

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"error": {"code": status, "message": message, "status": "INTERNAL"}}

    def error_frames(self, received: Received, message: str) -> list[bytes]:
        return [sse(self.error(503, message))]

    def _chunk(
        self, parts: list[dict[str, Any]], stop: str | None, usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if stop is not None:
            candidate["finishReason"] = stop
        told = {"usageMetadata": usage} if usage is not None else {}
        return {"candidates": [candidate], **told, "modelVersion": "gemini", "responseId": "r1"}

    def _usage(self, told: Told, spoken: int) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "promptTokenCount": told.input,
            "totalTokenCount": told.input + spoken + told.thought,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": told.input}],
        }
        if told.cached:
            usage["cachedContentTokenCount"] = told.cached
        if told.thought:
            usage["thoughtsTokenCount"] = told.thought
        if spoken:
            usage["candidatesTokenCount"] = spoken
        return usage


class Cohere:
    """Rerank v2, and the surface that is compatible with OpenAI's: it refuses `stream_options` and tells usage all the same."""

    provider = "cohere"
    environment = (("COHERE_API_KEY", KEY),)
    counts = UsageCounts(searches=1)
    _members = frozenset({"model", "query", "documents", "top_n", "max_tokens_per_doc", "priority"})
    _compatible = OpenAI(tells_unasked=True)

    def refuses(self, received: Received) -> tuple[int, str] | None:
        if received.headers.get("authorization") != f"Bearer {KEY}":
            return 401, "invalid api token"
        if self._chats(received):
            asked = "stream_options" in received.body
            return (400, "invalid request: unknown field stream_options") if asked else None
        if received.path != "/v2/rerank":
            return 404, "page not found"
        unknown = set(received.body) - self._members
        return (400, f"invalid request: unknown field {unknown.pop()}") if unknown else None

    def model(self, received: Received) -> str:
        return received.body["model"]

    def streams(self, received: Received) -> bool:
        return self._chats(received) and self._compatible.streams(received)

    def stream_type(self, received: Received) -> str:
        return self._compatible.stream_type(received)

    def whole(self, received: Received, told: Told | None) -> dict[str, Any]:
        if self._chats(received):
            return self._compatible.whole(received, told)
        top = received.body.get("top_n", len(received.body["documents"]))
        results = [{"index": i, "relevance_score": 0.9 - i / 10} for i in range(top)]
        units = {"billed_units": {"search_units": 1}} if told else {}
        return {"id": "rr1", "results": results, "meta": {"api_version": {"version": "2"}, **units}}

    def frames(self, received: Received, told: Told | None, *, fat: bool) -> list[bytes]:
        return self._compatible.frames(received, told, fat=fat)

    def frames_before_words(self, received: Received) -> int:
        return self._compatible.frames_before_words(received)

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"id": "x", "message": message}

    def error_frames(self, received: Received, message: str) -> list[bytes]:
        return self._compatible.error_frames(received, message)

    def _chats(self, received: Received) -> bool:
        return received.path in ("/compatibility/v1/chat/completions", "/compatibility/v1/embeddings")


SCRIPTS: dict[str, Script] = {
    "anthropic": Anthropic(),
    "gemini": Gemini(),
    "bedrock": Bedrock(),
    "cohere": Cohere(),
    "azure": Azure(),
    "openai": OpenAI(),
    "engine": Engine(),
}
"""By wire (azure, openai, engine: variants of OpenAI's)."""
