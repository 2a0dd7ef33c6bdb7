"""The block of cells with a second target: who is asked when the first fails, and what both of them cost.

What it does not know: how cells are played and held against the record (`check.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.gateway.conformance.cells import Cell, Kind, Protocol
from tests.gateway.conformance.expect import Expected
from tests.gateway.conformance.expect_media import expect
from tests.gateway.conformance.money import Counts
from tests.support.vendor_script import ONE_KIND

Trouble = Literal["before", "503", "continue"]
TROUBLES: dict[Trouble, tuple[str, str, int, str]] = {
    "before": ("dies before the first byte", "die-before", 0, "upstream_unreachable"),
    "503": ("says 503", "status-503", 503, "upstream_refused"),
    "continue": ("dies mid-stream, the next one goes on", "die-mid-plain", 200, "upstream_broke"),
}
"""What happens to the first: in words, its behaviour, the status it answered with, the error of its attempt."""
_SAID = 2
"""Words that the first has said when it dies in the middle."""


@dataclass(frozen=True)
class Fallback(Cell):
    """The cell of the second target, which answers in place of the first."""

    first: Kind
    trouble: Trouble

    @property
    def id(self) -> str:
        return (
            f"{self.protocol}-{self.first}-{self.trouble}-{self.kind}-{'stream' if self.stream else 'whole'}"
        )

    @property
    def model(self) -> str:
        return f"chain.{self.id}"

    @property
    def target(self) -> str:
        return f"second-{self.id}"

    @property
    def behaviour(self) -> str:
        return "ok-plain" if self.trouble == "continue" else "ok"

    @property
    def first_target(self) -> str:
        """Names the target that fails."""
        return f"first-{self.id}"

    @property
    def first_behaviour(self) -> str:
        """The first upstream's name of the model."""
        return TROUBLES[self.trouble][1]

    @property
    def midstream(self) -> Literal["fail", "continue"]:
        """The route's policy."""
        return "continue" if self.trouble == "continue" else "fail"

    def first_counts(self) -> Counts:
        """What the first has told before it failed."""
        if self.trouble != "continue":
            return {}
        return {"input_tokens": ONE_KIND.input, "output_tokens": _SAID}

    def second_counts(self) -> Counts:
        """What the second has told."""
        if self.trouble != "continue":
            return expect(self).counts
        return {"input_tokens": ONE_KIND.input, "output_tokens": ONE_KIND.spoken - _SAID}

    def expected(self) -> Expected:
        """Both together."""
        first, second = self.first_counts(), self.second_counts()
        both = {name: first.get(name, 0) + second.get(name, 0) for name in {*first, *second}}
        source = "partial" if self.trouble == "continue" else "reported"
        return Expected(200, "completed", usage_source=source, counts=both)


_PAIRS: tuple[tuple[Protocol, Kind, Kind], ...] = (
    ("chat", "own", "openai"),
    ("chat", "openai", "anthropic"),
    ("chat", "anthropic", "gemini"),
    ("chat", "gemini", "bedrock"),
    ("chat", "bedrock", "azure"),
    ("chat", "azure", "own"),
    ("messages", "anthropic", "bedrock"),
    ("messages", "openai", "anthropic"),
    ("responses", "openai", "own"),
    ("responses", "azure", "gemini"),
    ("completions", "own", "openai"),
    ("embeddings", "own", "bedrock"),
    ("rerank", "own", "cohere"),
    ("transcription", "own", "openai"),
    ("images", "openai", "azure"),
)
_ONE_WAY: frozenset[Protocol] = frozenset({"embeddings", "rerank"})
_CONTINUED: tuple[Protocol, ...] = ("chat", "completions")


def all_fallbacks() -> Iterator[Fallback]:
    """In the page's order."""
    for protocol, first, second in _PAIRS:
        for stream in (False,) if protocol in _ONE_WAY else (False, True):
            for trouble in ("before", "503"):
                yield Fallback(protocol, second, stream, "kinds", first, trouble)
    for protocol in _CONTINUED:
        yield Fallback(protocol, "own", True, "kinds", "own", "continue")
