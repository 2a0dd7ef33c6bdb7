"""The journal of open streams: what each stream that a replica has begun would be billed, had the replica to stop now.

A killed process writes nothing after its death, so the bill of a stream is written while it runs. A journal is one file beside the
segments, held under an exclusive `flock` for as long as its process lives, in slots of `SLOT_BYTES`: one for each open stream, with a
draft of its usage record in the segments' line format, overwritten in place (a slot never crosses a page, so a kill cannot tear it) and
cleared when the record itself is in the spool. A journal without a lock belongs to the dead: `settle` makes records of its drafts.
What it does not know: what a stream is, when drafts are renewed (`gateway/progress.py`), who ships (`writer.py`).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from foundry.errors import SpoolFull
from foundry.metrics import segments
from foundry.types.usage import UsageRecord

SUFFIX = ".open"
SLOT_BYTES = 2048
"""A divisor of the page size."""
REPLICA_LOST = "replica_lost"
"""`error_code` of records made of drafts."""
_TAIL_BYTES = 256 * 1024
_EMPTY = b"\n"
_OK = 200
_USER_CHARS = 64
_encode = msgspec.json.Encoder(decimal_format="string").encode
_decode = msgspec.json.Decoder(UsageRecord).decode


class OpenStreams:
    """This process's journal in `directory`; one belongs to one thread. Its methods cost one `pwrite(2)` into the page cache."""

    def __init__(self, directory: Path) -> None:
        self._path, self._fd = segments.create(directory, suffix=SUFFIX, flags=os.O_WRONLY)
        self._free: list[int] = []
        self._slots = 0

    def begin(self, draft: UsageRecord) -> int:
        """Write a draft into a slot of its own, and return the slot. Raises SpoolFull when the disk is full."""
        slot = self._free.pop() if self._free else self._slots
        if slot == self._slots:
            self._slots += 1
        try:
            self.update(slot, draft)
        except SpoolFull:
            self._free.append(slot)
            raise
        return slot

    def update(self, slot: int, draft: UsageRecord) -> None:
        """Put a newer draft in the place of the older one. Raises SpoolFull."""
        self._write(slot, _line(draft))

    def end(self, slot: int) -> None:
        """The record itself is written: forget the draft."""
        self._free.append(slot)
        self._write(slot, _EMPTY)

    def close(self) -> None:
        """End of the process: a journal without drafts is removed, another one is left to be settled."""
        if self._fd >= 0:
            if len(self._free) == self._slots:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    def _write(self, slot: int, line: bytes) -> None:
        try:
            os.pwrite(self._fd, line, slot * SLOT_BYTES)
        except OSError as error:
            raise SpoolFull(
                f"the journal {self._path} cannot be written ({error.strerror}): free disk space",
                retry_after_s=5.0,
            ) from error


def settle(directory: Path) -> bool:
    """Make records of what dead processes' journals in a folder hold, before anybody ships its segments.

    The records lie in a new segment of the folder. False when one of the journals belongs to a living process, or another one
    settles it now. Settling twice is harmless: a draft has the id of the record that it stands for.
    """
    done = True
    for path in _listing(directory):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # settled meanwhile
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _settle(directory, fd)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            done = False
        finally:
            os.close(fd)
    return done


def _settle(directory: Path, fd: int) -> None:
    drafts = _drafts(fd)
    if not drafts:
        return
    written = _last_ids(directory)
    lines = [segments.encode_line(_encode(_record(draft))) for draft in drafts if draft.id not in written]
    if lines:
        _, segment = segments.create(directory)
        try:
            os.write(segment, b"".join(lines))
        finally:
            os.close(segment)


def _record(draft: UsageRecord) -> UsageRecord:
    """As it is told of a stream whose replica died: its head had been sent, and nobody knows why it ended."""
    return msgspec.structs.replace(draft, status=_OK, outcome="aborted", error_code=REPLICA_LOST)


def _drafts(fd: int) -> list[UsageRecord]:
    found: list[UsageRecord] = []
    for offset in range(0, os.fstat(fd).st_size, SLOT_BYTES):
        slot = os.pread(fd, SLOT_BYTES, offset)
        payload = segments.decode_line(slot[: slot.find(b"\n") + 1])
        if payload is not None:
            found.append(_decode(payload))
    return found


def _last_ids(directory: Path) -> set[str]:
    """Of the newest record in every segment: a process that died between writing a record and clearing its slot wrote that last."""
    found: set[str] = set()
    for path in segments.listing(directory):
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().splitlines(keepends=True)
        payload = segments.decode_line(lines[-1]) if lines else None
        if payload is not None:
            found.add(_decode(payload).id)
    return found


def _listing(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX))
    except FileNotFoundError:
        return []


def _line(draft: UsageRecord) -> bytes:
    line = segments.encode_line(_encode(draft))
    if len(line) > SLOT_BYTES:  # the bill stays, what only explains it goes
        bare = msgspec.structs.replace(draft, attempts="", guardrails="", user=draft.user[:_USER_CHARS])
        line = segments.encode_line(_encode(bare))
    return line
