"""A scripted OpenAI-compatible upstream, as cheap as Python allows: every answer is made before the first request.

It speaks HTTP/1.1 with keep-alive on a raw asyncio protocol. `POST` answers a small chat completion, or, for a body with
`"stream":true`, 32 chunks as vLLM writes them, then the usage chunk and `[DONE]` when usage was asked for. With
`continuous_usage_stats` every chunk carries the running usage. Chunks go out in steps, one chunk to every open stream per
step, as an engine decodes a batch: one step after the other, or, for the model `scripted-paced`, at an engine's pace.
It counts the requests it answered: `GET /answered`.
What it does not know: models, prompts, keys. Run: `python -m benchmarks.upstream --port 9000 --step-ms 5`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Sequence
from typing import cast

import uvloop

CHUNKS = 32
"""Events of one stream that carry a choice: the role, 30 pieces of text, the finish reason."""
PROMPT_TOKENS, OUTPUT_TOKENS = 24, CHUNKS - 2
_ID, _CREATED, _MODEL = "chatcmpl-5f2b1c9e0a7d4e6f8b3a2c1d0e9f8a7b", 1767225600, "scripted"
_WORDS = (" the", " quick", " brown", " fox", " jumps", " over", " a", " lazy", " dog", ",")


def _usage(output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + output_tokens,
        "completion_tokens": output_tokens,
    }


def answer() -> bytes:
    """The whole, not streamed, chat completion as JSON."""
    text = "".join(_WORDS[index % len(_WORDS)] for index in range(OUTPUT_TOKENS))
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None, "tool_calls": []},
        "logprobs": None,
        "finish_reason": "stop",
        "stop_reason": None,
    }
    body = {"id": _ID, "object": "chat.completion", "created": _CREATED, "model": _MODEL, "choices": [choice]}
    return json.dumps({**body, "usage": _usage(OUTPUT_TOKENS)}, separators=(",", ":")).encode()


def events(*, usage: bool, running_usage: bool) -> list[bytes]:
    """The server-sent events of one stream, in the order and the steps that vLLM sends them: 32 items, the last one with
    the usage chunk and the end marker behind it."""
    made = [_event(index, running_usage=running_usage) for index in range(CHUNKS)]
    if usage:
        made[-1] += _sse({**_frame(), "choices": [], "usage": _usage(OUTPUT_TOKENS)})
    made[-1] += b"data: [DONE]\n\n"
    return made


def _frame() -> dict[str, object]:
    return {"id": _ID, "object": "chat.completion.chunk", "created": _CREATED, "model": _MODEL}


def _event(index: int, *, running_usage: bool) -> bytes:
    delta: dict[str, object]
    if index == 0:
        delta = {"role": "assistant", "content": ""}
    elif index < CHUNKS - 1:
        delta = {"content": _WORDS[(index - 1) % len(_WORDS)]}
    else:
        delta = {}
    finish = "stop" if index == CHUNKS - 1 else None
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "token_ids": None}
    body: dict[str, object] = {**_frame(), "choices": [choice]}
    if running_usage:
        body["usage"] = _usage(min(index, OUTPUT_TOKENS))
    return _sse(body)


def _sse(body: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _whole(body: bytes, content_type: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        content_type,
        len(body),
        body,
    )


def _chunked(parts: Sequence[bytes]) -> list[bytes]:
    framed = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    framed[0] = head + framed[0]
    framed[-1] += b"0\r\n\r\n"
    return framed


class Decoder:
    """Open streams that advance together, one chunk each per step."""

    def __init__(self, step_s: float) -> None:
        self.answered = 0
        self._step_s = step_s
        self._open: list[tuple[asyncio.Transport, list[bytes], int]] = []

    def add(self, transport: asyncio.Transport, parts: list[bytes]) -> None:
        """Answer one streamed request, beginning with the next step."""
        if not self._open:
            self._schedule()
        self._open.append((transport, parts, 0))

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        if self._step_s:
            loop.call_later(self._step_s, self._step)
        else:
            loop.call_soon(self._step)

    def _step(self) -> None:
        still_open: list[tuple[asyncio.Transport, list[bytes], int]] = []
        for transport, parts, index in self._open:
            if transport.is_closing():
                continue
            transport.write(parts[index])
            if index + 1 < len(parts):
                still_open.append((transport, parts, index + 1))
            else:
                self.answered += 1
        self._open = still_open
        if still_open:
            self._schedule()


class Script:
    """The prepared answers, and the two paces of the streams."""

    def __init__(self, step_s: float) -> None:
        self.whole = _whole(answer())
        self._streams = {
            (usage, running): _chunked(events(usage=usage, running_usage=running))
            for usage in (False, True)
            for running in (False, True)
        }
        self._fast, self._paced = Decoder(0.0), Decoder(step_s)
        self._whole_answered = 0

    @property
    def answered(self) -> int:
        """Requests answered in full so far."""
        return self._whole_answered + self._fast.answered + self._paced.answered

    def answer(self, transport: asyncio.Transport, body: bytes) -> None:
        """Answer one request."""
        if b'"stream":true' not in body and b'"stream": true' not in body:
            self._whole_answered += 1
            transport.write(self.whole)
            return
        usage = b'"include_usage":true' in body or b'"include_usage": true' in body
        running = b'"continuous_usage_stats":true' in body or b'"continuous_usage_stats": true' in body
        decoder = self._paced if b'"scripted-paced"' in body else self._fast
        decoder.add(transport, self._streams[usage, running])


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests one after another, never pipelined."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's callback."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class does not inherit from it

    def data_received(self, data: bytes) -> None:
        """asyncio's callback."""
        buffer = self._buffer + data if self._buffer else data
        head_end = buffer.find(b"\r\n\r\n")
        if head_end < 0 or len(buffer) < head_end + 4 + _content_length(buffer[:head_end]):
            self._buffer = buffer
            return
        self._buffer = b""
        self._answer(buffer, buffer[head_end + 4 :])

    def _answer(self, request: bytes, body: bytes) -> None:
        assert self._transport is not None
        if request.startswith(b"GET"):
            self._transport.write(_whole(b"%d" % self._script.answered, b"text/plain"))
        else:
            self._script.answer(self._transport, body)


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(b"content-length:")
    if start < 0:
        return 0
    return int(lowered[start + 15 :].split(b"\r\n", 1)[0])


async def serve(port: int, step_s: float) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT."""
    script, ended = Script(step_s), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(lambda: Connection(script), "127.0.0.1", port, backlog=1024)
    async with server:
        await ended.wait()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="scripted OpenAI-compatible upstream")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--step-ms", type=float, default=5.0, help="milliseconds between two chunks of a paced stream"
    )
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.step_ms / 1000))


if __name__ == "__main__":
    main()
