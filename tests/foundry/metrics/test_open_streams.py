"""The journal of open streams: drafts come back from the dead exactly once, from the living never."""

# Private names: only the kernel closes the file of the dead.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foundry.metrics import open_streams
from foundry.metrics.open_streams import REPLICA_LOST, SLOT_BYTES, OpenStreams, settle
from foundry.metrics.spool import Spool
from foundry.metrics.writer import orphans
from foundry.types.usage import UsageRecord
from tests.foundry.metrics.test_spool import read_all

ROOT = Path(__file__).resolve().parents[3]
Record = Callable[..., UsageRecord]
MIB = 1024 * 1024


def _die(journal: OpenStreams) -> None:
    """What the kernel does at `kill -9`: the lock goes, the file stays."""
    os.close(journal._fd)


def test_drafts_of_the_dead_become_records(tmp_path: Path, record: Record) -> None:
    folder = tmp_path / "a"
    journal = OpenStreams(folder)
    first = journal.begin(record(1, output_tokens=1))
    journal.begin(record(2, output_tokens=2, status=499, outcome="aborted"))
    ended = journal.begin(record(3))
    journal.update(first, record(1, output_tokens=9))
    journal.end(ended)
    assert not settle(folder), "the living are left alone"
    assert read_all(folder) == []
    _die(journal)
    assert settle(folder)
    found = {one.id: one for one in read_all(folder)}
    lost = {"status": 200, "outcome": "aborted", "error_code": REPLICA_LOST}
    assert found == {
        record(1).id: record(1, output_tokens=9, **lost),
        record(2).id: record(2, output_tokens=2, **lost),
    }
    assert settle(folder)
    assert len(read_all(folder)) == 2
    assert not [path for path in folder.iterdir() if path.name.endswith(open_streams.SUFFIX)]


def test_a_record_written_before_its_draft_was_cleared_is_not_made_again(
    tmp_path: Path, record: Record
) -> None:
    folder = tmp_path / "a"
    spool, journal = Spool(folder, segment_bytes=MIB, max_bytes=MIB), OpenStreams(folder)
    journal.begin(record(1, output_tokens=1))
    spool.append(record(1, output_tokens=12))
    _die(journal)
    spool.close()
    assert settle(folder)
    assert [one.output_tokens for one in read_all(folder)] == [12]


def test_slots_are_used_again_and_torn_ones_are_passed_over(tmp_path: Path, record: Record) -> None:
    folder = tmp_path / "a"
    journal = OpenStreams(folder)
    slots = [journal.begin(record(number)) for number in range(50)]
    for slot in slots[:-1]:
        journal.end(slot)
    again = [journal.begin(record(100 + number)) for number in range(49)]
    assert sorted([*again, slots[-1]]) == slots
    os.pwrite(journal._fd, b"garbage", again[0] * SLOT_BYTES)
    _die(journal)
    assert settle(folder)
    assert len(read_all(folder)) == 49


def test_what_is_too_long_for_a_slot_keeps_its_bill(tmp_path: Path, record: Record) -> None:
    folder = tmp_path / "a"
    journal = OpenStreams(folder)
    journal.begin(record(1, user="u" * 90_000, guardrails="x" * 9000, attempts="y" * 9000))
    journal.begin(record(2))
    _die(journal)
    assert settle(folder)
    first, second = read_all(folder)
    assert (first.cost_usd, first.user, first.guardrails) == (record(1).cost_usd, "u" * 64, "")
    assert second.id == record(2).id


def test_a_clean_end_leaves_nothing(tmp_path: Path, record: Record) -> None:
    folder = tmp_path / "a"
    journal = OpenStreams(folder)
    journal.end(journal.begin(record(1)))
    journal.close()
    assert list(folder.iterdir()) == []


def test_a_sibling_settles_what_a_killed_process_left(tmp_path: Path, record: Record) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path / "dead")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    own = tmp_path / "own"
    Spool(own, segment_bytes=MIB, max_bytes=MIB)
    assert orphans(own) == []
    child.kill()
    child.wait()
    child.stdout.close()
    paths = orphans(own)
    assert paths
    assert [(one.id, one.error_code) for one in read_all(tmp_path / "dead")] == [(record(7).id, REPLICA_LOST)]


_CHILD = """
import sys, time
from pathlib import Path
from foundry.metrics.open_streams import OpenStreams
from foundry.metrics.spool import Spool
from tests.foundry.metrics.conftest import make_record
folder = Path(sys.argv[1])
spool = Spool(folder, segment_bytes=1 << 20, max_bytes=1 << 20)
journal = OpenStreams(folder)
journal.begin(make_record(7))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("length", [1, SLOT_BYTES - 400, SLOT_BYTES])
def test_neighbours_are_never_touched(tmp_path: Path, record: Record, length: int) -> None:
    folder = tmp_path / "a"
    journal = OpenStreams(folder)
    slots = [journal.begin(record(number)) for number in range(3)]
    journal.update(slots[1], record(1, user="u" * length))
    _die(journal)
    assert settle(folder)
    assert [one.id for one in read_all(folder)] == [record(number).id for number in range(3)]
