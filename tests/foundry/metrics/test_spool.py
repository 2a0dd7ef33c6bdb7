"""The spool: lines, rotation, bounds, locks, and what a killed writer leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from blockbuster import BlockBuster

from foundry.errors import SpoolFull, Unavailable
from foundry.metrics import segments, spool
from foundry.metrics.spool import Spool
from foundry.types.usage import UsageRecord

ROOT = Path(__file__).resolve().parents[3]
Record = Callable[..., UsageRecord]
MIB = 1024 * 1024


def read_all(directory: Path) -> list[UsageRecord]:
    found: list[UsageRecord] = []
    for path in segments.listing(directory):
        claim = segments.claim(path)
        assert claim is not None
        found += [msgspec.json.decode(line, type=UsageRecord) for line in claim.read(max_rows=10**6).payloads]
        claim.close()
    return found


def test_a_record_comes_back_exactly(tmp_path: Path, record: Record) -> None:
    written = record(cost_usd=Decimal("1E-18"), route='line\nbreak "quoted" é')
    held = Spool(tmp_path / "a", segment_bytes=MIB, max_bytes=MIB)
    held.append(written)
    assert read_all(tmp_path / "a") == [written]
    held.close()


async def test_append_passes_the_guard_against_blocking(
    tmp_path: Path, record: Record, no_blocking: BlockBuster
) -> None:
    del no_blocking
    held = await asyncio.to_thread(Spool, tmp_path / "a", segment_bytes=4096, max_bytes=MIB)
    for number in range(20):  # rotates, too
        held.append(record(number))
        assert held.has_room()
    await asyncio.to_thread(held.close)


def test_segments_rotate_by_size_and_keep_order(tmp_path: Path, record: Record) -> None:
    held = Spool(tmp_path / "a", segment_bytes=4096, max_bytes=MIB)
    for number in range(50):
        held.append(record(number))
    paths = segments.listing(tmp_path / "a")
    assert len(paths) > 5
    assert all(path.stat().st_size <= 4096 for path in paths)
    assert [segments.is_written(path) for path in paths] == [False] * (len(paths) - 1) + [True]
    assert [found.id for found in read_all(tmp_path / "a")] == [record(number).id for number in range(50)]
    held.close()


def test_segments_rotate_by_age(tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Spool(tmp_path / "a", segment_bytes=MIB, max_bytes=MIB)
    held.append(record(1))
    monkeypatch.setattr(spool, "SEGMENT_AGE_S", 0.0)
    held.append(record(2))
    assert len(segments.listing(tmp_path / "a")) == 2
    held.close()


def test_a_full_spool_refuses_and_takes_again_after_shipping(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_RESCAN_S", 0.0)
    held = Spool(tmp_path / "a", segment_bytes=8192, max_bytes=64 * 1024)
    stopped_serving_at = None
    written = 0
    with pytest.raises(SpoolFull) as caught:
        for number in range(10_000):
            if stopped_serving_at is None and not held.has_room():
                stopped_serving_at = number
            held.append(record(number))
            written += 1
    assert issubclass(SpoolFull, Unavailable)
    assert (caught.value.code, caught.value.status) == ("spool_full", 503)
    assert str(tmp_path / "a") in caught.value.message
    assert stopped_serving_at is not None
    assert written - stopped_serving_at >= 4, "requests in flight must still find room"
    assert len(read_all(tmp_path / "a")) == written
    segments.listing(tmp_path / "a")[0].unlink()  # as a shipper does
    assert held.has_room()
    held.append(record(written))
    held.close()


def test_a_full_disk_leaves_no_torn_line(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Spool(tmp_path / "a", segment_bytes=MIB, max_bytes=MIB)
    held.append(record(1))
    write = os.write

    def write_a_part(fd: int, data: bytes) -> int:
        return write(fd, data[:20])

    monkeypatch.setattr(os, "write", write_a_part)
    with pytest.raises(SpoolFull, match="full"):
        held.append(record(2))
    monkeypatch.undo()
    held.append(record(3))
    assert [found.id for found in read_all(tmp_path / "a")] == [record(1).id, record(3).id]
    held.close()


@pytest.mark.parametrize(
    "damage", [b"", b"\n", b"zzzzzzzz {}\n", b"00000000 {}\n", b"0000", b"00000000 {}", b"-1234567 {}\n"]
)
def test_a_damaged_line_is_no_record(damage: bytes) -> None:
    assert segments.decode_line(damage) is None


def test_every_flipped_byte_is_found() -> None:
    line = segments.encode_line(b'{"id":"a"}')
    assert segments.decode_line(line) == b'{"id":"a"}'
    for place in range(len(line)):
        broken = bytearray(line)
        broken[place] ^= 0x01
        assert segments.decode_line(bytes(broken)) != b'{"id":"a"}' or place < 8, place


def test_a_damaged_position_means_ship_again(tmp_path: Path, record: Record) -> None:
    held = Spool(tmp_path / "a", segment_bytes=MIB, max_bytes=MIB)
    held.append(record())
    path = segments.listing(tmp_path / "a")[0]
    claim = segments.claim(path)
    assert claim is not None
    claim.advance(123)
    assert segments.claim(path) is None, "one shipper at a time"
    claim.close()
    again = segments.claim(path)
    assert again is not None
    assert again.position == 123
    again.close()
    segments.position_path(path).write_bytes(b"deadbeef 00000000000000000999")
    damaged = segments.claim(path)
    assert damaged is not None
    assert damaged.position == 0
    damaged.close()
    held.close()


_WRITER = """
import sys
from pathlib import Path
from foundry.metrics.spool import Spool
from tests.foundry.metrics.conftest import make_record
spool = Spool(Path(sys.argv[1]), segment_bytes=20_000, max_bytes=1 << 30)
for number in range(int(sys.argv[2]), 10**9):
    spool.append(make_record(number))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_kill_9_of_a_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    for life in range(3):
        command = [sys.executable, "-c", _WRITER, str(tmp_path / "a"), str(life * 1_000_000)]
        writer = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(200)]
        writer.send_signal(signal.SIGSTOP)  # no rotation between listing and asking
        os.waitpid(writer.pid, os.WUNTRACED)
        assert any(segments.is_written(path) for path in segments.listing(tmp_path / "a"))
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines(keepends=True)
        writer.wait(timeout=10)
        writer.stdout.close()
        acknowledged += [int(line) for line in lines if line.endswith("\n")]
    assert not any(segments.is_written(path) for path in segments.listing(tmp_path / "a"))
    stored = [found.id for found in read_all(tmp_path / "a")]
    assert len(stored) == len(set(stored))
    assert {f"rec-{number:08d}" for number in acknowledged} <= set(stored)
