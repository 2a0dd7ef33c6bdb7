"""Change signals between requests, background tasks and API processes: PostgreSQL's LISTEN and NOTIFY.

A change announces its topic inside its own transaction, so that the signal arrives only if and when the change is
visible, in every process. A lost connection fires every topic once it is back: waiters then look for themselves.
What it does not know: what the topics mean to their waiters.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import StrEnum

import psycopg
import structlog
from sqlalchemy import func, select

from control_api.kit.db import WriteSession

log = structlog.get_logger(__name__)
CHANNEL = "foundry_changes"
_RETRY_S = 0.5


class Topic(StrEnum):
    """What changed."""

    DESIRED = "desired"
    """A deployment that the reconciler has to look at."""
    SERVING = "serving"
    """Something that a snapshot holds: keys, routes, deployments, their status."""
    SNAPSHOT = "snapshot"
    """A newer snapshot was published."""


async def announce(session: WriteSession, *topics: Topic) -> None:
    """Tell every process when, and only if, this transaction commits."""
    for topic in topics:
        await session.scalar(select(func.pg_notify(CHANNEL, topic.value)))


class Signal:
    """A counter that can be awaited: a waiter that read `count` before it looked misses nothing."""

    def __init__(self) -> None:
        self.count = 0
        self._event = asyncio.Event()

    def fire(self) -> None:
        """Wake all waiters."""
        self.count += 1
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait_beyond(self, seen: int, timeout_s: float) -> None:
        """Return when `count` exceeds `seen` or after `timeout_s`, whichever is first."""
        if self.count > seen:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)


class Changes:
    """The listening end in this process. Run `listen()` as a task."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._signals = {topic: Signal() for topic in Topic}
        self.listening = asyncio.Event()
        """Set while the connection is up: changes reach us without polling."""

    def signal(self, topic: Topic) -> Signal:
        """The signal of one topic."""
        return self._signals[topic]

    def fire_all(self) -> None:
        """Wake every waiter of every topic."""
        for signal in self._signals.values():
            signal.fire()

    async def listen(self) -> None:
        """Receive until cancelled; reconnects by itself."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5
                ) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    self.listening.set()
                    self.fire_all()  # what happened while we were away
                    async for message in connection.notifies():
                        self._signals[Topic(message.payload)].fire()
            except (psycopg.Error, OSError) as error:
                log.warning("changes_connection_lost", error=str(error), retry_s=_RETRY_S)
            finally:
                self.listening.clear()
            await asyncio.sleep(_RETRY_S)
