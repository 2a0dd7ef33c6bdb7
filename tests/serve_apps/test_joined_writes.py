"""Heads travel with bodies, on a real uvicorn server, and never wait for a body that is late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from serve_apps.joined_writes import JoinedWrites

Message = MutableMapping[str, Any]  # Any: the ASGI specification's own type
Send = Callable[[Message], Awaitable[None]]


@asynccontextmanager
async def _serving(answer: Callable[[Send], Awaitable[None]]) -> AsyncGenerator[int]:
    async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        await receive()
        await answer(send)

    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http=JoinedWrites, lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)  # bounded poll: the test has a time limit
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


async def _get(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    return reader, writer


_START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}


async def test_one_read_brings_head_and_body() -> None:
    async def answer(send: Send) -> None:
        await send(_START)
        await send({"type": "http.response.body", "body": b"hi"})

    async with _serving(answer) as port:
        reader, writer = await _get(port)
        for _ in range(3):  # keep-alive: each answer anew
            received = await reader.read(65536)
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
            assert received.endswith(b"\r\n\r\nhi")
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        writer.close()
        await writer.wait_closed()


async def test_a_head_does_not_wait_for_a_late_body() -> None:
    late = asyncio.Event()

    async def answer(send: Send) -> None:
        await send(_START)
        await late.wait()
        await send({"type": "http.response.body", "body": b"hi"})

    async with _serving(answer) as port:
        reader, writer = await _get(port)
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            late.set()
            assert await reader.readexactly(2) == b"hi"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("body", [b"", b"HTTP/1.1 "])
async def test_a_closing_answer_is_whole(body: bytes) -> None:
    async def answer(send: Send) -> None:
        headers = [(b"connection", b"close"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with _serving(answer) as port:
        reader, writer = await _get(port)
        received = await reader.read()
        assert received.partition(b"\r\n\r\n")[2] == body
        writer.close()
        await writer.wait_closed()
