"""Run a raw ASGI app on loopback the way Ray Serve runs it: uvicorn, and the task is cancelled when the caller goes away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


def cancel_on_disconnect(app: Any) -> Any:
    """What Serve's replica does around an ASGI app (ray.serve._private.replica, `_direct_ingress_asgi`)."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def pump() -> None:
            while True:
                message = await receive()
                queue.put_nowait(message)
                if message["type"] == "http.disconnect":
                    return

        pumping = asyncio.create_task(pump())
        serving = asyncio.create_task(app(scope, queue.get, send))
        await asyncio.wait([pumping, serving], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            pumping.cancel()
            serving.result()
            return
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    return wrapped


@asynccontextmanager
async def serve_asgi(app: Any, port: int = 0) -> AsyncGenerator[str]:
    """Serve until the block ends; yields the root URL. port: 0 for a free one."""
    sock = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        cancel_on_disconnect(app),
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # absent in newer uvicorn
    running = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
