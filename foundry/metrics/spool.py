"""The durable spool of usage records: what the gateway calls on its hot path.

`append` is one JSON encoding, one checksum and one `write(2)`; once it returns, the record survives the death of this
process (not a power cut: there is no fsync; a line that a power cut tore is found by its checksum).
What it does not know: where records go (`writer.py` reads the same files), what they mean. One spool belongs to one thread.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from foundry.errors import SpoolFull
from foundry.metrics import segments
from foundry.types.usage import UsageRecord

SEGMENT_AGE_S = 60.0
"""A segment is closed after this long, so that what was shipped can be deleted."""
_RESERVE_SHARE = 16
_RESERVE_MAX_BYTES = 16 * 1024 * 1024
_RESCAN_S = 0.25


class Spool:
    """Append-only segments in one folder, held by this process.

    directory: one folder per gateway process, e.g. `$FOUNDRY_HOME/spool/<replica>`; siblings adopt what a dead process left.
    segment_bytes: a segment is closed above this size. max_bytes: bound over all segments in the folder.
    """

    def __init__(self, directory: Path, *, segment_bytes: int, max_bytes: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._reserve = min(max_bytes // _RESERVE_SHARE, _RESERVE_MAX_BYTES)
        self._encode = msgspec.json.Encoder(decimal_format="string").encode
        self._path, self._fd = segments.create(directory)
        self._opened = time.monotonic()
        self._live_bytes = 0
        self._closed_bytes = self._measure_closed()
        self._measured = self._opened

    @property
    def used_bytes(self) -> int:
        """Upper bound of what lies on disk: segments that were shipped meanwhile are noticed when space gets short."""
        return self._closed_bytes + self._live_bytes

    def has_room(self) -> bool:
        """True while a new request may be served: its record, and those of requests in flight, will find room."""
        limit = self._max_bytes - self._reserve
        return self.used_bytes < limit or self._remeasure() < limit

    def append(self, record: UsageRecord) -> None:
        """Write one record. Raises SpoolFull when the bound or the disk is reached; nothing is written then."""
        line = segments.encode_line(self._encode(record))
        if self.used_bytes + len(line) > self._max_bytes and self._remeasure() + len(line) > self._max_bytes:
            raise SpoolFull(
                f"the usage spool {self._directory} holds {self.used_bytes} of at most {self._max_bytes} bytes:"
                " is the metrics store down? (`foundry status`); raise gateway.spool_max_bytes to ride out longer outages",
                retry_after_s=5.0,
            )
        if self._live_bytes and (
            self._live_bytes + len(line) > self._segment_bytes
            or time.monotonic() - self._opened > SEGMENT_AGE_S
        ):
            self._rotate()
        self._write(line)

    def close(self) -> None:
        """Close the live segment; an empty one is deleted. The spool must not be used afterwards."""
        if self._fd < 0:
            return
        if not self._live_bytes:
            self._path.unlink(missing_ok=True)
            segments.position_path(self._path).unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            raise SpoolFull(
                f"the usage spool {self._directory} cannot be written ({error.strerror}): free disk space",
                retry_after_s=5.0,
            ) from error
        if written != len(line):  # the disk filled up half-way: take the torn line back
            os.ftruncate(self._fd, self._live_bytes)
            raise SpoolFull(
                f"the disk that holds the usage spool {self._directory} is full", retry_after_s=5.0
            )
        self._live_bytes += written

    def _rotate(self) -> None:
        path, fd = segments.create(self._directory)
        os.close(self._fd)
        self._path, self._fd = path, fd
        self._opened = time.monotonic()
        self._closed_bytes += self._live_bytes
        self._live_bytes = 0

    def _remeasure(self) -> int:
        """Used bytes after looking at the disk again, at most four times a second."""
        now = time.monotonic()
        if now - self._measured >= _RESCAN_S:
            self._measured = now
            self._closed_bytes = self._measure_closed()
        return self.used_bytes

    def _measure_closed(self) -> int:
        return sum(segments.size_of(path) for path in segments.listing(self._directory) if path != self._path)
