"""The model cache: verified, made once, whole or not there at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from foundry.catalog import LocalModel, PullPhase, PullProgress
from foundry.catalog.model import Report, ignore_progress
from foundry.catalog.store import Store, Wanted
from foundry.errors import ModelSourceError

WANTED = Wanted("pypi://tiny", "pypi", "tiny@1.0")


def fill(folder: Path, scratch: Path, report: Report) -> None:
    (scratch / "download").write_text("does not reach the entry")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights" * 100)


class Counting:
    """A `fill` that says how often it ran."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path, scratch: Path, report: Report) -> None:
        self.calls += 1
        fill(folder, scratch, report)


def obtain(home: Path, make: Counting, *, full: bool = False) -> LocalModel:
    return Store(home).obtain(WANTED, make, ignore_progress, full=full)


def test_a_second_call_is_a_hit(tmp_path: Path) -> None:
    make = Counting()
    first, second = obtain(tmp_path, make), obtain(tmp_path, make)
    assert (make.calls, first) == (1, second)
    assert first.resolved == "pypi://tiny@1.0"
    assert (first.weights_bytes, first.total_bytes) == (700, 702)
    assert sorted(path.name for path in first.path.iterdir()) == ["config.json", "model.safetensors"]
    assert sorted(path.name for path in first.path.parent.iterdir()) == ["manifest.json", "model"]
    assert list((tmp_path / "models" / ".work").iterdir()) == []


def test_a_changed_file_heals(tmp_path: Path) -> None:
    make = Counting()
    good = obtain(tmp_path, make)
    (good.path / "model.safetensors").write_bytes(b"WEIGHTS" * 100)
    assert obtain(tmp_path, make) == good
    assert make.calls == 2
    assert (good.path / "model.safetensors").read_bytes() == b"weights" * 100


@pytest.mark.parametrize("damage", ["remove a file", "add a file", "truncate", "break the manifest"])
def test_every_damage_heals(tmp_path: Path, damage: str) -> None:
    make = Counting()
    good = obtain(tmp_path, make)
    if damage == "remove a file":
        (good.path / "config.json").unlink()
    elif damage == "add a file":
        (good.path / "extra.json").write_text("{}")
    elif damage == "truncate":
        os.truncate(good.path / "model.safetensors", 10)
    else:
        (good.path.parent / "manifest.json").write_text('{"resolved": "pypi')
    assert obtain(tmp_path, make) == good
    assert make.calls == 2


def test_a_flip_that_keeps_size_and_time_is_found_by_the_full_check(tmp_path: Path) -> None:
    make = Counting()
    good = obtain(tmp_path, make)
    weights = good.path / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(b"WEIGHTS" * 100)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    obtain(tmp_path, make)
    assert make.calls == 1  # the cheap check cannot see it
    obtain(tmp_path, make, full=True)
    assert make.calls == 2


def test_restored_files_pass_and_are_remembered(tmp_path: Path) -> None:
    make = Counting()
    good = obtain(tmp_path, make)
    os.utime(good.path / "config.json", ns=(1, 1))
    assert obtain(tmp_path, make) == good
    assert make.calls == 1
    recorded = json.loads((good.path.parent / "manifest.json").read_text())
    assert 1 in [entry["mtime_ns"] for entry in recorded["files"]]


@pytest.mark.parametrize(
    ("missing", "word"), [("config.json", "config.json"), ("model.safetensors", "safetensors")]
)
def test_what_is_no_model_is_refused_and_leaves_nothing(tmp_path: Path, missing: str, word: str) -> None:
    def incomplete(folder: Path, scratch: Path, report: Report) -> None:
        fill(folder, scratch, report)
        (folder / missing).unlink()

    with pytest.raises(ModelSourceError, match=word):
        Store(tmp_path).obtain(WANTED, incomplete, ignore_progress, full=False)
    assert not (tmp_path / "models" / "pypi").exists()
    assert list((tmp_path / "models" / ".work").iterdir()) == []


def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    filling, go_on = threading.Event(), threading.Event()
    steps: list[PullProgress] = []
    waiting = threading.Event()

    def slow(folder: Path, scratch: Path, report: Report) -> None:
        filling.set()
        assert go_on.wait(20)
        fill(folder, scratch, report)

    def note(step: PullProgress) -> None:
        steps.append(step)
        if step.phase is PullPhase.WAITING:
            waiting.set()

    results: list[LocalModel] = []
    second = Counting()
    one = threading.Thread(
        target=lambda: results.append(Store(tmp_path).obtain(WANTED, slow, ignore_progress, full=False))
    )
    two = threading.Thread(
        target=lambda: results.append(Store(tmp_path).obtain(WANTED, second, note, full=False))
    )
    one.start()
    assert filling.wait(20)
    two.start()
    assert waiting.wait(20)
    go_on.set()
    one.join(20)
    two.join(20)
    assert second.calls == 0
    assert len(results) == 2
    assert results[0] == results[1]


KILLED = """
import os, sys
from pathlib import Path
from foundry.catalog.model import ignore_progress
from foundry.catalog.store import Store, Wanted
def fill(folder, scratch, report):
    (folder / "config.json").write_text("{}")
    print("half-way", flush=True)
    sys.stdin.read()
Store(Path(sys.argv[1])).obtain(Wanted("pypi://tiny", "pypi", "tiny@1.0"), fill, ignore_progress, full=False)
"""


def test_kill_9_leaves_nothing_half_made_and_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half-way\n"
        process.send_signal(signal.SIGKILL)
    work = tmp_path / "models" / ".work"
    assert len(list(work.iterdir())) == 1
    assert not (tmp_path / "models" / "pypi").exists()
    make = Counting()
    assert obtain(tmp_path, make).path.is_dir()
    assert make.calls == 1
    assert list(work.iterdir()) == []


def test_work_of_a_longer_name_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "models" / ".work" / "pypi-tiny@1.0.5~abc"
    other.mkdir(parents=True)
    obtain(tmp_path, Counting())
    assert other.is_dir()
