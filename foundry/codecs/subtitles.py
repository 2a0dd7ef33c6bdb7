"""Transcripts as text: plain, SubRip (srt) and WebVTT (vtt), from segments with their times.

What it does not know: where segments come from, HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

TYPES = {
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}
"""Response format to content type."""


class Spoken(Protocol):
    """One segment."""

    @property
    def start(self) -> float:
        """Seconds from the beginning."""
        ...

    @property
    def end(self) -> float:
        """Seconds from the beginning."""
        ...

    @property
    def text(self) -> str:
        """What was said."""
        ...


def srt(segments: Iterable[Spoken]) -> str:
    """SubRip: numbered, times with a comma."""
    return "".join(
        f"{number}\n{_time(one.start, ',')} --> {_time(one.end, ',')}\n{_line(one.text)}\n\n"
        for number, one in enumerate(segments, 1)
    )


def vtt(segments: Iterable[Spoken]) -> str:
    """WebVTT."""
    cues = (f"{_time(one.start, '.')} --> {_time(one.end, '.')}\n{_line(one.text)}\n\n" for one in segments)
    return "WEBVTT\n\n" + "".join(cues)


def _line(text: str) -> str:
    """An arrow would end the cue early, an empty line the block."""
    return " ".join(text.split()).replace("-->", "->")


def _time(seconds: float, point: str) -> str:
    ms = round(max(0.0, seconds) * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
