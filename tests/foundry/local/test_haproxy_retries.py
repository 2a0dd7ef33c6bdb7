"""The wrapper around HAProxy, with the real binary: what it may send twice, and what not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from foundry.local import haproxy
from foundry.local.services import HAPROXY_RETRIES

CONFIG = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option redispatch 1
    retry-on {retry_on}
frontend prometheus
    bind :{metrics}
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend gateway
backend gateway
    balance roundrobin
    server a 127.0.0.1:{dying}
    server b 127.0.0.1:{living}
"""


@asynccontextmanager
async def _balanced(folder: Path, make_port: Callable[[], int]) -> AsyncGenerator[tuple[int, Counter[str]]]:
    """Port of an HAProxy, and the requests that reached the server that dies over each."""
    asked: Counter[str] = Counter()

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked[(await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]] += 1
        writer.close()

    async def live(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        writer.close()

    dying = await asyncio.start_server(die, "127.0.0.1", 0)
    living = await asyncio.start_server(live, "127.0.0.1", 0)
    ports = {"dying": dying.sockets[0].getsockname()[1], "living": living.sockets[0].getsockname()[1]}
    port, metrics = make_port(), make_port()
    path = folder / "haproxy.cfg"
    retry_on = HAPROXY_RETRIES["RAY_SERVE_HAPROXY_RETRY_ON"]
    path.write_text(CONFIG.format(port=port, metrics=metrics, retry_on=retry_on, **ports))
    wrapper = haproxy.write_wrapper(folder / "haproxy")
    process = await asyncio.create_subprocess_exec(
        str(wrapper), "-db", "-f", str(path), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield port, asked
    finally:
        process.kill()
        await process.wait()
        for server in (dying, living):
            server.close()
            await server.wait_closed()
    assert f"bind 127.0.0.1:{metrics}" in path.read_text()


async def _status(port: int, method: str, path: str) -> int:
    async with asyncio.timeout(20):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)  # poll: bounded by the timeout above
        writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
    return int(line.split()[1])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/chat/completions", 200),
        ("POST", "/v1/embeddings", 200),
        ("GET", "/v1/files/x", 200),
        ("POST", "/v1/files", 502),
        ("POST", "/v1/batches", 502),
        ("DELETE", "/v1/files/x", 502),
    ],
)
async def test_what_died_unanswered_goes_to_another_replica_unless_it_makes_something(
    tmp_path: Path, make_port: Callable[[], int], method: str, path: str, status: int
) -> None:
    async with _balanced(tmp_path, make_port) as (port, asked):
        assert await _status(port, method, path) == status
        assert asked[path] >= 1
        assert status == 200 or asked == {path: 1}
