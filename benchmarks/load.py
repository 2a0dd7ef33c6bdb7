"""A load generator. Closed loop: a fixed number of connections, each sends its next request when the last is answered. Open
loop (`--rate`): requests are due at even intervals; the time of one that must wait for a connection counts from when it was due.

It runs in a process of its own on a raw asyncio protocol, parses only what it needs to know that an answer is whole, and
checks every answer: status 200, for a stream all events and the end marker. Prints one JSON object: seconds, requests,
errors, and the percentiles of the time to the first byte of the body and to the last one.
What it does not know: which system it talks to. Run: `python -m benchmarks.load --port 8000 --model m --requests 1000`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import cast

import uvloop

from benchmarks.upstream import CHUNKS

_TIMEOUT_S = 600.0
_WORDS = "Say one short sentence about a fox and a dog, please. Keep it under thirty words."
USAGE_FORMS: dict[str, dict[str, bool] | None] = {"none": None, "final": {"include_usage": True}}
"""What the caller asks to be told: nothing, or the usage chunk at the end of the stream."""


def body_for(model: str, *, stream: bool, usage: str = "none") -> bytes:
    """A chat completion request of about 250 bytes, as the official client writes it."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": _WORDS},
    ]
    body: dict[str, object] = {"messages": messages, "model": model, "max_tokens": 32, "temperature": 0}
    if stream:
        body["stream"] = True
        if USAGE_FORMS[usage] is not None:
            body["stream_options"] = USAGE_FORMS[usage]
    return json.dumps(body, separators=(",", ":")).encode()


def request_for(path: str, port: int, key: str, body: bytes) -> bytes:
    """The request as bytes, with the headers that matter of those the official client sends."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: application/json\r\nuser-agent: OpenAI/Python 3.54.0\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Wrong(Exception):
    """The system answered, but not what was asked for: its words are in the message."""


@dataclass(slots=True)
class Load:
    """What all connections of one run share."""

    request: bytes
    stream: bool
    left: int
    """Requests not yet sent."""
    open: int
    """Connections that still have work."""
    done: asyncio.Future[None]
    first_ns: list[int]
    whole_ns: list[int]
    interval_ns: float = 0.0
    """Between two requests of an open loop; 0: a closed loop."""
    begun_ns: int = 0
    sent: int = 0

    def due_ns(self) -> int:
        """When the next request is due."""
        self.sent += 1
        return self.begun_ns + int((self.sent - 1) * self.interval_ns)

    def fail(self, message: str) -> None:
        """End the run with an error."""
        if not self.done.done():
            self.done.set_exception(Wrong(message))


class Connection(asyncio.Protocol):
    """One connection of the load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._tail = b""
        self._body_at = self._length = -1  # -1: the head is not whole; length -1: chunked
        self._size = self._sent_ns = self._first_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's callback."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class does not inherit from it
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's callback."""
        if self._sent_ns:
            self._load.fail(f"the connection was closed in the middle of a request ({exc})")

    def _next(self) -> None:
        assert self._transport is not None
        load = self._load
        self._parts.clear()
        self._tail, self._body_at, self._size = b"", -1, 0
        if load.left:
            load.left -= 1
            due_ns = load.due_ns() if load.interval_ns else 0
            wait_s = (due_ns - time.perf_counter_ns()) / 1e9
            if wait_s > 0:
                self._sent_ns = due_ns
                asyncio.get_running_loop().call_later(wait_s, self._send)
            else:  # overdue: the wait for this connection counts
                self._send(due_ns)
            return
        self._sent_ns = 0
        self._transport.close()
        load.open -= 1
        if not load.open and not load.done.done():
            load.done.set_result(None)

    def _send(self, since_ns: int = 0) -> None:
        """since_ns: when it was due, if it is late for want of a connection; a late timer of ours does not count."""
        assert self._transport is not None
        self._sent_ns = since_ns or time.perf_counter_ns()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        """asyncio's callback."""
        self._parts.append(data)
        self._size += len(data)
        if self._body_at < 0 and not self._head():
            return
        if self._size > self._body_at and not self._first_ns:
            self._first_ns = time.perf_counter_ns()
        if self._length >= 0:
            whole = self._size >= self._body_at + self._length
        else:
            self._tail = (self._tail + data)[-7:]
            whole = self._tail == b"\r\n0\r\n\r\n"
        if whole:
            self._finish()

    def _head(self) -> bool:
        received = b"".join(self._parts)
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = received[:end].lower()
        start = head.find(b"content-length:")
        self._length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else -1
        self._body_at = end + 4
        return True

    def _finish(self) -> None:
        now_ns, load = time.perf_counter_ns(), self._load
        load.first_ns.append(self._first_ns - self._sent_ns)
        load.whole_ns.append(now_ns - self._sent_ns)
        self._first_ns = 0
        received = b"".join(self._parts)
        if not received.startswith(b"HTTP/1.1 200"):
            load.fail(f"not a 200: {received[:600]!r}")
        elif load.stream and (received.count(b"data: {") < CHUNKS or b"data: [DONE]" not in received):
            load.fail(f"not a whole stream: {received[-600:]!r}")
        elif not load.stream and b'"usage"' not in received:
            load.fail(f"not a chat completion: {received[-600:]!r}")
        else:
            self._next()


async def run(
    port: int, request: bytes, *, stream: bool, requests: int, concurrency: int, rate: float = 0.0
) -> dict[str, float]:
    """One run; milliseconds and seconds. Raises Wrong on the first answer that is not as it should be."""
    loop = asyncio.get_running_loop()
    connections = min(concurrency, requests)
    interval_ns = 1e9 / rate if rate else 0.0
    load = Load(request, stream, requests, connections, loop.create_future(), [], [], interval_ns)
    load.begun_ns = time.perf_counter_ns()
    started = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
    async with asyncio.timeout(_TIMEOUT_S):
        await load.done
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "requests": len(load.whole_ns),
        **_percentiles("first", load.first_ns),
        **_percentiles("whole", load.whole_ns),
    }


def _percentiles(name: str, values_ns: list[int]) -> dict[str, float]:
    ordered = sorted(values_ns)
    return {
        f"{name}_p{rank}_ms": ordered[min(len(ordered) - 1, len(ordered) * rank // 100)] / 1e6
        for rank in (50, 99)
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="closed-loop load generator")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v1/chat/completions")
    parser.add_argument("--key", default="none")
    parser.add_argument("--model", required=True)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--usage", choices=sorted(USAGE_FORMS), default="none")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second, in an open loop")
    options = parser.parse_args()
    body = body_for(options.model, stream=options.stream, usage=options.usage)
    request = request_for(options.path, options.port, options.key, body)
    try:
        result = uvloop.run(
            run(
                options.port,
                request,
                stream=options.stream,
                requests=options.requests,
                concurrency=options.concurrency,
                rate=options.rate,
            )
        )
    except (Wrong, OSError, TimeoutError) as error:
        print(f"load failed: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
