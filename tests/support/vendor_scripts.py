"""How each native wire but Bedrock's looks: answers after the vendors' documented examples, with counts of every kind they tell.

What it does not know: sockets (`scripted_vendor.py`), our own code for these wires.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from foundry.types.usage import UsageCounts
from tests.support.bedrock_script import Bedrock
from tests.support.vendor_script import (
    CACHED,
    INPUT,
    KEY,
    OUTPUT,
    PLAIN,
    SPOKEN,
    THOUGHT,
    THOUGHT_TOKENS,
    WORDS,
    WRITTEN,
    Received,
    Script,
    sse,
)


class Anthropic:
    """Messages."""

    provider = "anthropic"
    environment = (("ANTHROPIC_API_KEY", KEY),)
    counts = UsageCounts(
        input_tokens=INPUT, cached_input_tokens=CACHED, cache_write_tokens=WRITTEN, output_tokens=OUTPUT
    )
    stream_type = "text/event-stream; charset=utf-8"
    frames_to_second_word = 7

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

    def whole(self, received: Received, *, usage: bool) -> dict[str, Any]:
        if received.path.endswith("count_tokens"):
            return {"input_tokens": INPUT}
        content = [
            {"type": "thinking", "thinking": THOUGHT, "signature": "c2ln"},
            {"type": "text", "text": "".join(WORDS)},
        ]
        return self._message(content, "end_turn") | ({"usage": self._usage(OUTPUT)} if usage else {})

    def frames(self, *, usage: bool) -> list[bytes]:
        start = self._message([], None) | ({"usage": self._usage(1)} if usage else {})
        text = {"type": "text", "text": ""}
        told = {"usage": {"output_tokens": OUTPUT}} if usage else {}
        end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, **told}
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

    def error_frames(self, message: str) -> list[bytes]:
        return [sse({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")]

    def _message(self, content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content}
        return {**head, "stop_reason": stop, "stop_sequence": None}

    def _usage(self, output: int) -> dict[str, int]:
        cache = {"cache_read_input_tokens": CACHED, "cache_creation_input_tokens": WRITTEN}
        return {"input_tokens": PLAIN, **cache, "output_tokens": output}

    def _delta(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": delta}


class Gemini:
    """generateContent, streamGenerateContent, batchEmbedContents."""

    provider = "gemini"
    environment = (("GEMINI_API_KEY", KEY),)
    counts = UsageCounts(
        input_tokens=INPUT, cached_input_tokens=CACHED, output_tokens=OUTPUT, reasoning_tokens=THOUGHT_TOKENS
    )
    stream_type = "text/event-stream"
    frames_to_second_word = 3
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

    def whole(self, received: Received, *, usage: bool) -> dict[str, Any]:
        if received.path.endswith(":batchEmbedContents"):
            return {"embeddings": [{"values": [0.5, -0.5]} for _ in received.body["requests"]]}
        parts = [{"text": THOUGHT, "thought": True}, {"text": "".join(WORDS)}]
        return self._chunk(parts, "STOP", self._usage(SPOKEN) if usage else None)

    def frames(self, *, usage: bool) -> list[bytes]:
        chunks = [self._chunk([{"text": THOUGHT, "thought": True}], None, self._usage(0) if usage else None)]
        for number, word in enumerate(WORDS, 1):
            stop = "STOP" if number == len(WORDS) else None
            chunks.append(self._chunk([{"text": word}], stop, self._usage(number) if usage else None))
        return [sse(chunk).replace(b"\n", b"\r\n") for chunk in chunks]  # as Google sends them

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"error": {"code": status, "message": message, "status": "INTERNAL"}}

    def error_frames(self, message: str) -> list[bytes]:
        return [sse(self.error(503, message))]

    def _chunk(
        self, parts: list[dict[str, Any]], stop: str | None, usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if stop is not None:
            candidate["finishReason"] = stop
        told = {"usageMetadata": usage} if usage is not None else {}
        return {"candidates": [candidate], **told, "modelVersion": "gemini", "responseId": "r1"}

    def _usage(self, spoken: int) -> dict[str, Any]:
        text = [{"modality": "TEXT", "tokenCount": INPUT}]
        said = {"candidatesTokenCount": spoken} if spoken else {}
        return {
            "promptTokenCount": INPUT, "cachedContentTokenCount": CACHED, "thoughtsTokenCount": THOUGHT_TOKENS, **said,
            "totalTokenCount": INPUT + spoken + THOUGHT_TOKENS, "promptTokensDetails": text,
        }  # fmt: skip


class Cohere:
    """Rerank v2."""

    provider = "cohere"
    environment = (("COHERE_API_KEY", KEY),)
    counts = UsageCounts(searches=1)
    stream_type = "application/json"
    frames_to_second_word = 0
    _members = frozenset({"model", "query", "documents", "top_n", "max_tokens_per_doc", "priority"})

    def refuses(self, received: Received) -> tuple[int, str] | None:
        if received.headers.get("authorization") != f"Bearer {KEY}":
            return 401, "invalid api token"
        unknown = set(received.body) - self._members
        return (400, f"invalid request: unknown field {unknown.pop()}") if unknown else None

    def model(self, received: Received) -> str:
        return received.body["model"]

    def streams(self, received: Received) -> bool:
        return False

    def whole(self, received: Received, *, usage: bool) -> dict[str, Any]:
        top = received.body.get("top_n", len(received.body["documents"]))
        results = [{"index": i, "relevance_score": 0.9 - i / 10} for i in range(top)]
        units = {"billed_units": {"search_units": 1}} if usage else {}
        return {"id": "rr1", "results": results, "meta": {"api_version": {"version": "2"}, **units}}

    def frames(self, *, usage: bool) -> list[bytes]:
        raise AssertionError("rerank does not stream")

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"id": "x", "message": message}

    def error_frames(self, message: str) -> list[bytes]:
        raise AssertionError("rerank does not stream")


class Azure:
    """Chat completions at Azure's paths (`provider` is the surface with the deployment in the path)."""

    provider = "azure-deployments"
    environment = (("AZURE_OPENAI_API_KEY", KEY),)
    counts = UsageCounts(
        input_tokens=INPUT, cached_input_tokens=CACHED, output_tokens=OUTPUT, reasoning_tokens=THOUGHT_TOKENS
    )
    stream_type = "text/event-stream"
    frames_to_second_word = 3

    def refuses(self, received: Received) -> tuple[int, str] | None:
        if received.headers.get("api-key") != KEY:
            return 401, "Access denied due to invalid subscription key"
        if "/deployments/" in received.path and "api-version" not in received.query:
            return 404, "Resource not found"
        return None

    def model(self, received: Received) -> str:
        parts = unquote(received.path).split("/")
        return parts[3] if "/deployments/" in received.path else received.body["model"]

    def streams(self, received: Received) -> bool:
        return bool(received.body.get("stream"))

    def whole(self, received: Received, *, usage: bool) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        told = {"usage": self._usage()} if usage else {}
        return {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt",
            "choices": [choice],
            **told,
        }

    def frames(self, *, usage: bool) -> list[bytes]:
        deltas: list[dict[str, Any]] = [
            {"role": "assistant", "content": ""},
            *({"content": word} for word in WORDS),
        ]
        chunks = [self._chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
        chunks.append(self._chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        if usage:
            chunks.append(self._chunk([]) | {"usage": self._usage()})
        return [*(sse(chunk) for chunk in chunks), b"data: [DONE]\n\n"]

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"error": {"code": str(status), "message": message}}

    def error_frames(self, message: str) -> list[bytes]:
        return [sse({"error": {"message": message, "code": 500}}), b"data: [DONE]\n\n"]

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt",
            "choices": choices,
        }

    def _usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
            "prompt_tokens_details": {"cached_tokens": CACHED},
            "completion_tokens_details": {"reasoning_tokens": THOUGHT_TOKENS},
        }  # fmt: skip


SCRIPTS: dict[str, Script] = {
    "anthropic": Anthropic(),
    "gemini": Gemini(),
    "bedrock": Bedrock(),
    "cohere": Cohere(),
    "azure": Azure(),
}
"""By wire (azure: its variant of OpenAI's)."""
