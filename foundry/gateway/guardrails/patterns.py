"""Guard `regex`: the operator's own patterns, in RE2's syntax, which takes time linear in the text whatever the pattern is.

What it does not know: what the patterns mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import re2
from pydantic import Field, field_validator

from foundry.gateway.guardrails.base import Finding, Guard, GuardOptions


class PatternOptions(GuardOptions):
    """Label to pattern."""

    patterns: dict[str, str] = Field(min_length=1, max_length=200)
    """Label to regular expression; RE2 has no look-around and no back-references."""
    ignore_case: bool = False

    @field_validator("patterns")
    @classmethod
    def _compiles(cls, patterns: dict[str, str]) -> dict[str, str]:
        for label, pattern in patterns.items():
            try:
                compiled = re2.compile(pattern)
            except re2.error as error:
                raise ValueError(f"'{label}' is not a pattern in RE2's syntax: {error}") from error
            if compiled.search("") is not None:
                raise ValueError(f"'{label}' matches the empty text, so it would match everywhere")
        return patterns


class Patterns(Guard):
    """Every match of every pattern, with score 1."""

    kind: ClassVar[str] = "regex"
    Options: ClassVar[type[GuardOptions]] = PatternOptions
    libraries: ClassVar[tuple[str, ...]] = ("re2",)

    def __init__(self, options: PatternOptions) -> None:
        flags = re2.Options()
        flags.case_sensitive = not options.ignore_case
        flags.log_errors = False
        self._compiled = tuple((label, re2.compile(text, flags)) for label, text in options.patterns.items())
        self._any = _any_of(options.patterns.values(), flags)

    def inspect(self, texts: Sequence[str]) -> list[Finding]:
        """One search for all patterns together over each text; only where it hits is each of them asked for its matches."""
        found: list[Finding] = []
        for number, text in enumerate(texts):
            if self._any is not None and self._any.search(text) is None:
                continue
            for label, pattern in self._compiled:
                for match in pattern.finditer(text):
                    start, end = match.span()
                    if end > start:
                        found.append(Finding(number, start, end, label, 1.0))
        return found


def _any_of(patterns: Iterable[str], flags: re2.Options) -> re2._Regexp | None:  # pyright: ignore[reportPrivateUsage]  the only name its type has
    """All patterns as one; None where they do not go together (two groups of one name, too large)."""
    try:
        return re2.compile("|".join(f"(?:{pattern})" for pattern in patterns), flags)
    except re2.error:
        return None
