"""The embedded metrics store: chDB in one process behind ClickHouse's HTTP protocol.

Run: `python -m foundry.metrics.embedded --path DIR --host 127.0.0.1 --port 8123`. User and password are
`metrics.user` and the secret `clickhouse.password`. It logs one line when it listens, ends in order on SIGTERM, and loses
no acknowledged row on `kill -9`.
What it does not know: who started it (`foundry up` supervises it), what the tables mean.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import structlog
import uvicorn

from foundry import settings
from foundry.errors import FoundryError
from foundry.metrics.chdb_engine import Engine
from foundry.metrics.http_protocol import ClickHouseHttp

_SHUTDOWN_S = 10
_SWEEP_S = 15.0

log = structlog.get_logger("foundry.metrics.embedded")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m foundry.metrics.embedded", description="chDB over ClickHouse's HTTP"
    )
    parser.add_argument("--path", type=Path, required=True, help="folder of the database")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    return parser.parse_args(argv)


async def serve(engine: Engine, *, host: str, port: int, user: str, password: str) -> None:
    """Serve an open engine until SIGTERM or SIGINT."""
    app = ClickHouseHttp(engine, user=user, password=password)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        timeout_keep_alive=60,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, _ignore
        )  # uvicorn shuts down in order, then re-raises the signal at the handler it found
    sweeper = asyncio.create_task(_sweep(engine))
    try:
        await uvicorn.Server(config).serve()
    finally:
        sweeper.cancel()
        await asyncio.gather(sweeper, return_exceptions=True)
        await asyncio.to_thread(app.close)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Let the orderly shutdown that uvicorn began run to its end."""
    del number, frame


async def _sweep(engine: Engine) -> None:
    while True:
        await asyncio.sleep(_SWEEP_S)
        await asyncio.to_thread(engine.expire_sessions)


def main(argv: Sequence[str] | None = None) -> int:
    """Open, serve, close. Returns the exit status."""
    arguments = _arguments(argv)
    loaded = settings.load()
    started = time.monotonic()
    try:
        password = loaded.secret("clickhouse.password")
        engine = Engine(arguments.path)
        engine.open()
    except FoundryError as error:
        log.error("metrics store cannot start", code=error.code, error=error.message)  # noqa: TRY400  (the message says it all)
        return 1
    log.info("metrics store open", path=str(arguments.path), elapsed_s=round(time.monotonic() - started, 2))
    try:
        asyncio.run(
            serve(
                engine, host=arguments.host, port=arguments.port, user=loaded.metrics.user, password=password
            )
        )
    finally:
        engine.close()
        log.info("metrics store closed", path=str(arguments.path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
