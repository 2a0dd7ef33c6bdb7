"""Spool segments on disk: names, lines, locks and positions. Shared by the process that writes and those that ship.

A segment is a file of lines `crc32-as-8-hex-digits space JSON newline`, appended by one process that holds an exclusive
`flock` on it for as long as it may still write. The kernel drops that lock when the process dies, however it dies, so "no
lock" means "nobody will append any more". Beside it lies `<segment>.pos`: how far it was shipped; whoever ships holds a
`flock` on that file, so two shippers never work on one segment.
What it does not know: what a record means, ClickHouse, when to rotate (`spool.py`) or ship (`writer.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".jsonl"
_POSITION_SUFFIX = ".pos"
_DRAFT_SUFFIX = ".new"
_CRC_DIGITS = 8
_MIN_LINE = _CRC_DIGITS + 3  # crc, space, one byte, newline
_POSITION_BYTES = 32


def encode_line(payload: bytes) -> bytes:
    """One line: checksum, space, payload, newline. The payload must not contain a newline (JSON text never does)."""
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def decode_line(line: bytes) -> bytes | None:
    """The payload of one line with its newline, or None when the line is torn or corrupt."""
    if len(line) < _MIN_LINE or line[-1:] != b"\n" or line[_CRC_DIGITS : _CRC_DIGITS + 1] != b" ":
        return None
    payload = line[_CRC_DIGITS + 1 : -1]
    try:
        expected = int(line[:_CRC_DIGITS], 16)
    except ValueError:
        return None
    return payload if zlib.crc32(payload) == expected else None


_APPEND = os.O_WRONLY | os.O_APPEND


def create(directory: Path, *, suffix: str = SUFFIX, flags: int = _APPEND) -> tuple[Path, int]:
    """Create a locked, empty segment, or another file of a living process, in `directory` (made when missing). Returns its path
    and descriptor.

    It appears under its final name only once it is locked, so nobody can take it for a dead owner's. Names sort by age.
    """
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{time.time_ns():020d}-{os.getpid()}{suffix}"
        draft = path.with_name(path.name + _DRAFT_SUFFIX)
        try:
            fd = os.open(draft, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # a shipper removed the folder, which was empty, under our feet: make it again
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            draft.rename(path)
        except FileNotFoundError:
            os.close(fd)  # taken for a dead process's draft before it was locked
            continue
        return path, fd


def listing(directory: Path) -> list[Path]:
    """The segments of a folder, oldest first; empty when the folder does not exist."""
    try:
        with os.scandir(directory) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX))
    except FileNotFoundError:
        return []


def remove_abandoned(directory: Path) -> None:
    """Remove a folder without segments, and what a dead process left in it; one that is in use stays."""
    with contextlib.suppress(OSError):  # in use again, or removed by somebody else
        for entry in list(directory.iterdir()):
            stale_position = entry.suffix == _POSITION_SUFFIX and not entry.with_suffix("").exists()
            stale_draft = entry.suffix == _DRAFT_SUFFIX and not is_written(entry)
            if stale_position or stale_draft:
                entry.unlink(missing_ok=True)
        directory.rmdir()


def size_of(path: Path) -> int:
    """Bytes of a file; 0 when it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def is_written(path: Path) -> bool:
    """True while a living process holds the segment open for appending."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(fd, shared=True)
    finally:
        os.close(fd)


def _try_lock(fd: int, *, shared: bool = False) -> bool:
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(slots=True)
class Chunk:
    """A run of complete lines read from a segment."""

    payloads: list[bytes]
    """Valid records as JSON, in order."""
    end: int
    """Offset behind the last line taken."""
    corrupt: int
    """Complete lines whose checksum is wrong."""
    torn_bytes: int = 0
    """Bytes of an unfinished last line, at the end of the file only."""


class Claim:
    """The sole right to ship one segment, held until `close()`; made by `claim()`."""

    def __init__(self, path: Path, fd: int, position_fd: int) -> None:
        self.path = path
        self._fd = fd
        self._position_fd = position_fd
        self.position = _read_position(position_fd)

    def read(self, *, max_rows: int, max_bytes: int = 4 * 1024 * 1024) -> Chunk:
        """The next complete lines after `position`, at most `max_rows` and about `max_bytes`."""
        data = os.pread(self._fd, max_bytes, self.position)
        payloads: list[bytes] = []
        corrupt = 0
        start = 0
        while len(payloads) < max_rows and (newline := data.find(b"\n", start)) >= 0:
            payload = decode_line(data[start : newline + 1])
            if payload is None:
                corrupt += 1
            else:
                payloads.append(payload)
            start = newline + 1
        at_end = self.position + len(data) >= os.fstat(self._fd).st_size
        torn = len(data) - start if at_end and data.find(b"\n", start) < 0 else 0
        if not start and len(data) == max_bytes:
            return Chunk([], self.position + len(data), 1)  # a line longer than any record: step over it
        return Chunk(payloads, self.position + start, corrupt, torn)

    def advance(self, position: int) -> None:
        """Remember durably that everything before `position` is stored."""
        text = f"{position:020d}".encode()
        os.pwrite(self._position_fd, (b"%08x " % zlib.crc32(text) + text).ljust(_POSITION_BYTES), 0)
        self.position = position

    def backlog_bytes(self) -> int:
        """Bytes that are not shipped yet."""
        return max(0, os.fstat(self._fd).st_size - self.position)

    def remove(self) -> None:
        """Delete the segment and its position; the claim stays held until `close()`."""
        self.path.unlink(missing_ok=True)
        position_path(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Give the claim up."""
        os.close(self._fd)
        os.close(self._position_fd)


def position_path(path: Path) -> Path:
    """Where a segment's position lies."""
    return path.with_name(path.name + _POSITION_SUFFIX)


def _read_position(fd: int) -> int:
    """The stored offset; 0 when there is none or it is damaged (shipping twice is harmless)."""
    text = os.pread(fd, _POSITION_BYTES, 0).rstrip()
    payload = decode_line(text + b"\n")
    return int(payload) if payload is not None and payload.isdigit() else 0


def claim(path: Path) -> Claim | None:
    """The right to ship `path`, or None when another shipper has it or it is gone."""
    try:
        position_fd = os.open(position_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None  # another shipper finished the whole folder
    try:
        if _try_lock(position_fd):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return Claim(path, fd, position_fd)
    except FileNotFoundError:
        position_path(path).unlink(missing_ok=True)  # shipped and deleted between the listing and here
    os.close(position_fd)
    return None


def peek(path: Path, *, max_bytes: int) -> tuple[bytes, int]:
    """The first bytes that were not shipped, and how many there are in all; takes no claim."""
    try:
        position_fd = os.open(position_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        position = 0
    else:
        position = _read_position(position_fd)
        os.close(position_fd)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", 0
    try:
        return os.pread(fd, max_bytes, position), max(0, os.fstat(fd).st_size - position)
    finally:
        os.close(fd)
