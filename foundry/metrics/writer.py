"""The shipper: moves spooled usage records to the metrics store in batches, at least once; the store keeps each id once.

It reads this process's folder and adopts the segments of dead siblings. It never touches the request path: file work runs
in threads, and while the store is down records wait on disk and `lag` grows.
What it does not know: requests; how records are made (`spool.py`) or read back (`queries.py`).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from foundry.errors import FoundryError, MetricsRefused
from foundry.metrics import open_streams, segments
from foundry.metrics.segments import Claim
from foundry.metrics.store import Store
from foundry.settings import Settings

ADOPT_S = 5.0
"""How often the siblings' folders are searched for what the dead left."""
BACKOFF_MAX_S = 30.0
_BACKOFF_MIN_S = 0.05
_COUNTED_BYTES = 16 * 1024 * 1024
_TABLE = "usage"
REFUSED_FILE = "refused.ndjson"
_BAD_ROW = frozenset({6, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 131, 190, 321, 349, 407})
"""ClickHouse's codes for a row that can never be stored; anything else is worth a retry."""

log = structlog.get_logger("foundry.metrics.writer")


@dataclass(frozen=True, slots=True)
class Lag:
    """What waits in this process's folder."""

    rows: int = 0
    """Exact up to 16 MiB, extrapolated from those above."""
    bytes: int = 0
    oldest_age_s: float = 0.0
    """Age of the oldest record that is not stored; 0 when none waits."""


class _Dated(msgspec.Struct):
    received_at: datetime


class Shipper:
    """One background task per gateway process.

    spool_dir: this process's folder (`Spool`'s); its siblings are searched for orphans. interval_s: pause between passes.
    batch_rows: rows per INSERT. `start()` and `stop()` bracket it; `ship_once()` is one pass.
    """

    def __init__(self, spool_dir: Path, settings: Settings, *, interval_s: float, batch_rows: int) -> None:
        self._directory = spool_dir
        self._settings = settings
        self._interval_s = interval_s
        self._batch_rows = batch_rows
        self._store: Store | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._adopted_at = float("-inf")
        self._lag = Lag()
        self.shipped_rows = 0
        """Rows stored by this process."""
        self.corrupt_lines = 0
        """Lines skipped because their checksum was wrong or they were torn."""
        self.refused_rows = 0
        """Rows that the store can never take; they lie in `refused.ndjson`."""
        self.last_error: str | None = None
        """Why the last pass failed; None after one that succeeded."""

    @property
    def lag(self) -> Lag:
        """As measured after the last pass."""
        return self._lag

    def start(self) -> None:
        """Begin shipping. Call it inside a running event loop."""
        self._task = asyncio.create_task(self._run(), name="usage-shipper")

    async def stop(self, *, timeout_s: float = 5.0) -> None:
        """Ship what waits, for at most `timeout_s`, then end. What is left is shipped by the next start or a sibling."""
        self._stopping.set()
        task, self._task = self._task, None
        if task is not None:
            _, pending = await asyncio.wait({task}, timeout=timeout_s)
            if pending:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._disconnect()

    async def ship_once(self) -> int:
        """One pass over own and orphaned segments; returns the rows stored. Raises FoundryError when the store fails."""
        rows = 0
        try:
            for path in await asyncio.to_thread(self._shippable):
                rows += await self._ship(path)
        finally:
            self._lag = await asyncio.to_thread(measure, self._directory)
        return rows

    async def _run(self) -> None:
        failures = 0
        while True:
            last = self._stopping.is_set()
            try:
                await self.ship_once()
                if failures:
                    log.info("usage is shipped again", failures=failures, lag_rows=self._lag.rows)
                failures, self.last_error, pause = 0, None, self._interval_s
            except (FoundryError, OSError) as error:
                failures += 1
                self.last_error = str(error)
                pause = random.uniform(_BACKOFF_MIN_S, min(BACKOFF_MAX_S, self._interval_s * 2**failures))  # noqa: S311  (jitter is no secret)
                log.warning(
                    "usage is not shipped, it waits on disk", error=str(error), failures=failures, retry_in_s=round(pause, 2),
                    lag_rows=self._lag.rows, lag_bytes=self._lag.bytes,
                )  # fmt: skip
                await self._disconnect()
            if last:
                return
            try:
                await asyncio.wait_for(self._stopping.wait(), timeout=pause)
            except TimeoutError:
                continue

    def _shippable(self) -> list[Path]:
        now = time.monotonic()
        if now - self._adopted_at < ADOPT_S:
            return segments.listing(self._directory)
        self._adopted_at = now
        open_streams.settle(self._directory)  # of an earlier process with this folder
        return [*segments.listing(self._directory), *orphans(self._directory)]

    async def _ship(self, path: Path) -> int:
        """Ship one segment as far as it goes; delete it when nobody will append to it any more."""
        claim = await asyncio.to_thread(segments.claim, path)
        if claim is None:
            return 0
        rows = 0
        try:
            growing = await asyncio.to_thread(
                segments.is_written, path
            )  # before reading: else the last lines could slip by
            while True:
                chunk = await asyncio.to_thread(claim.read, max_rows=self._batch_rows)
                if chunk.corrupt:
                    self._report_corrupt(path, lines=chunk.corrupt, at=claim.position)
                if chunk.end == claim.position:
                    break
                await self._insert(chunk.payloads)
                await asyncio.to_thread(claim.advance, chunk.end)
                rows += len(chunk.payloads)
                self.shipped_rows += len(chunk.payloads)
            if not growing:
                if chunk.torn_bytes:
                    self._report_corrupt(path, lines=1, at=claim.position)
                await asyncio.to_thread(_finish, claim, own=self._directory)
        finally:
            await asyncio.to_thread(claim.close)
        return rows

    def _report_corrupt(self, path: Path, *, lines: int, at: int) -> None:
        self.corrupt_lines += lines
        log.error(
            "spooled usage lines are damaged and were skipped", segment=str(path), lines=lines, offset=at
        )

    async def _insert(self, rows: list[bytes]) -> None:
        """Insert rows; when the store refuses a row for what it holds, narrow it down and set it aside."""
        if not rows:
            return
        if self._store is None:
            self._store = await Store.connect(self._settings)
        try:
            await self._store.insert_json(_TABLE, b"\n".join(rows) + b"\n")
        except MetricsRefused as error:
            if error.store_code not in _BAD_ROW or "Unknown field" in error.message:
                raise  # the store's tables are older than the record: wait for the migration
            if len(rows) == 1:
                await asyncio.to_thread(self._set_aside, rows[0], error)
                return
            middle = len(rows) // 2
            await self._insert(rows[:middle])
            await self._insert(rows[middle:])

    def _set_aside(self, row: bytes, error: MetricsRefused) -> None:
        path = self._directory / REFUSED_FILE
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, row + b"\n")
        finally:
            os.close(fd)
        self.refused_rows += 1
        log.error("the metrics store can never take this usage record", error=str(error), kept_in=str(path))

    async def _disconnect(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()


def orphans(own: Path) -> list[Path]:
    """Segments in sibling folders without a living writer, their open streams settled; folders found empty are removed."""
    found: list[Path] = []
    for folder in sorted(own.parent.iterdir()) if own.parent.is_dir() else []:
        if folder == own or not folder.is_dir():
            continue
        if not open_streams.settle(folder):
            continue
        paths = segments.listing(folder)
        if not paths:
            segments.remove_abandoned(folder)
        elif not any(segments.is_written(path) for path in paths):
            found += paths
    return found


def _finish(claim: Claim, *, own: Path) -> None:
    claim.remove()
    if claim.path.parent != own:
        segments.remove_abandoned(claim.path.parent)


def measure(directory: Path) -> Lag:
    """What waits in a folder."""
    rows = total = counted = 0
    oldest: float | None = None
    for path in segments.listing(directory):
        data, waiting = segments.peek(path, max_bytes=max(0, _COUNTED_BYTES - counted))
        total += waiting
        counted += len(data)
        rows += data.count(b"\n")
        if oldest is None and data:
            oldest = _age_s(data)
    if counted and total > counted:
        rows = rows * total // counted
    return Lag(rows, total, oldest or 0.0)


def _age_s(data: bytes) -> float | None:
    payload = segments.decode_line(data[: data.find(b"\n") + 1])
    if payload is None:
        return None
    received = msgspec.json.decode(payload, type=_Dated).received_at
    return max(0.0, (datetime.now(UTC) - received.astimezone(UTC)).total_seconds())
