"""The ledger's memory on disk: one JSON line per change of a lease, last one wins.

A line is written (one `write(2)`, no fsync: it survives the process, not a power cut) before the replica hears of it. Rewritten
whole when most lines are out of date. What it does not know: what the numbers mean (`tally.py`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from foundry.errors import ConfigurationError
from foundry.gateway.limits.wire import CounterId
from foundry.settings import Settings

_COMPACT_ABOVE_LINES = 20_000
_COMPACT_RATIO = 4


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One replica's part of one counter; `replica` is empty for what earlier lives used (`spent`)."""

    counter: CounterId
    end: float
    gauge: bool
    cap: int
    version: int
    replica: str
    life: int
    lease: int
    spent: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Row).decode


class Journal:
    """One file. `load` first, then `append`. Raises ConfigurationError when the folder cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ConfigurationError(
                f"another ledger of limits holds {path}: stop it, or share it"
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"the journal of limits {path} cannot be opened ({error.strerror}): make its folder writable"
            ) from error

    @classmethod
    def of(cls, settings: Settings) -> Journal:
        """That of the gateway's cluster: `$FOUNDRY_HOME/limits/<cluster>.jsonl`."""
        return cls(cls.path_of(settings))

    @staticmethod
    def path_of(settings: Settings) -> Path:
        """Where it lies."""
        return settings.home / "limits" / f"{settings.gateway.cluster}.jsonl"

    def load(self) -> list[Row]:
        """The last row of each replica and counter; a line torn by a crash is passed over."""
        rows: dict[tuple[CounterId, str], Row] = {}
        for line in self._path.read_bytes().splitlines():
            self._lines += 1
            try:
                row = _decode(line)
            except msgspec.DecodeError:
                continue
            rows[(row.counter, row.replica)] = row
        os.write(self._fd, b"\n")  # ends a torn line, so that the next one stands alone
        return list(rows.values())

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows. Raises OSError; the caller must not act on what is not written."""
        lines = [_encode(row) + b"\n" for row in rows]
        if lines:
            data = b"".join(lines)
            if os.write(self._fd, data) != len(data):
                raise OSError(f"the disk that holds {self._path} is full")
            self._lines += len(lines)

    def is_mostly_old(self, live_rows: int) -> bool:
        """Worth rewriting."""
        return self._lines > max(_COMPACT_ABOVE_LINES, _COMPACT_RATIO * live_rows)

    def rewrite(self, rows: Iterable[Row]) -> None:
        """Replace the file by these rows, atomically."""
        temporary = self._path.with_suffix(".new")
        lines = [_encode(row) + b"\n" for row in rows]
        fd = os.open(temporary, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, b"".join(lines))
        os.fsync(fd)
        temporary.replace(self._path)
        os.close(self._fd)
        self._fd, self._lines = fd, len(lines)

    def close(self) -> None:
        """The journal must not be used afterwards."""
        os.close(self._fd)
        os.close(self._lock)
