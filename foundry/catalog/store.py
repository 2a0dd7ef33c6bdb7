"""The model cache below `<home>/models`: one folder per resolved model, written once, atomically, under a lock.

    <home>/models/<scheme>/<slug>/model/         what an engine loads
    <home>/models/<scheme>/<slug>/manifest.json  what must be in it
    <home>/models/.work/<slug>.*                 half-made entries; whoever holds the lock removes what a kill left
    <home>/models/.locks/<slug>.lock             flock: the kernel releases it when its holder dies, however it dies

What it does not know: where models come from. An entry that fails its check is removed and made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from foundry.catalog import manifest
from foundry.catalog.model import LocalModel, PullPhase, PullProgress, Report
from foundry.errors import ModelSourceError

Fill = Callable[[Path, Report], None]
"""Puts the model's files into the given empty folder."""


def slug(text: str) -> str:
    """A file name that tells a person what it is: letters, digits and `-_.@`; anything else becomes `--`."""
    return re.sub(r"[^A-Za-z0-9_.@-]+", "--", text).strip("-.")


class Store:
    """The cache of one instance."""

    def __init__(self, home: Path) -> None:
        self.root = home / "models"

    def entry(self, scheme: str, name: str) -> Path:
        """Where the entry of a resolved model lies or would lie."""
        return self.root / scheme / slug(name)

    def find(self, uri: str, scheme: str, name: str, report: Report, *, full: bool) -> LocalModel | None:
        """The cached model if it is there and passes its check; None when it must be made (again)."""
        entry = self.entry(scheme, name)
        known = manifest.read(entry / "manifest.json")
        if known is None or not manifest.matches(entry / "model", known, report, full=full):
            return None
        return known.local_model(uri, entry / "model")

    def obtain(
        self, uri: str, scheme: str, name: str, resolved: str, fill: Fill, report: Report, *, full: bool
    ) -> LocalModel:
        """The cached model, made by `fill` when it is missing or damaged. One process makes it, the others wait."""
        if (hit := self.find(uri, scheme, name, report, full=full)) is not None:
            return hit
        with self.locked(f"{scheme}-{name}", report) as work:
            if (hit := self.find(uri, scheme, name, report, full=full)) is not None:
                return hit
            made = Path(tempfile.mkdtemp(prefix=f"{work.name}.", dir=work.parent))
            folder = made / "model"
            folder.mkdir()
            fill(folder, report)
            return self.publish(uri, scheme, name, resolved, made, report)

    def publish(
        self, uri: str, scheme: str, name: str, resolved: str, made: Path, report: Report
    ) -> LocalModel:
        """Give a complete entry its name in one rename; call it under the lock. `made` holds `model/`."""
        require_loadable(made / "model", resolved)
        known = manifest.scan(made / "model", resolved, report)
        manifest.write(made / "manifest.json", known)
        _sync(made)
        entry = self.entry(scheme, name)
        entry.parent.mkdir(parents=True, exist_ok=True)
        if (
            entry.exists()
        ):  # damaged, or it would have been found: a rename cannot replace a folder that is not empty
            entry.rename(made.with_name(f"{made.name}.damaged"))
            shutil.rmtree(made.with_name(f"{made.name}.damaged"))
        made.rename(entry)
        return known.local_model(uri, entry / "model")

    @contextlib.contextmanager
    def locked(self, name: str, report: Report) -> Iterator[Path]:
        """Hold the lock of one model; yields the path prefix of its work folders, all removed before and after."""
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
            _remove_work(works, key)
            try:
                yield works / key
            finally:
                _remove_work(works, key)


def require_loadable(folder: Path, resolved: str) -> None:
    """Raise ModelSourceError unless the folder has a configuration and safetensors weights."""
    if not (folder / "config.json").is_file():
        raise ModelSourceError(f"{resolved} has no config.json: it is not a model in Hugging Face's layout")
    if not any(folder.glob("*.safetensors")):
        raise ModelSourceError(
            f"{resolved} has no *.safetensors weights (pickled weights are refused): convert it to safetensors"
        )


def _remove_work(works: Path, key: str) -> None:
    for leftover in works.glob(f"{key}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Flush every file and folder below, so that the rename never outruns the content."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
