"""Guard `moderation`: asks a route of task `moderate` or `classify`, e.g. a moderation endpoint or a prompt-guard model.

What it does not know: how a route is asked and billed (`AskRoute`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from foundry.gateway.guardrails.base import AskRoute, Finding, GuardOptions, RouteGuard


class ModerationOptions(GuardOptions):
    """Which route, and which of its labels count."""

    route: str = Field(min_length=1)
    labels: tuple[str, ...] | None = None
    """Labels that count against a text; None: all but `safe_labels`."""
    safe_labels: tuple[str, ...] = ("safe", "benign", "LABEL_0")
    """Labels of classifiers that mean that nothing is wrong."""
    max_chars: int = Field(default=20_000, ge=1)
    """Longer texts are asked about in pieces of this many characters."""


class Moderation(RouteGuard):
    """The route's labels with its scores, each over the whole piece of text that was asked about."""

    kind: ClassVar[str] = "moderation"
    Options: ClassVar[type[GuardOptions]] = ModerationOptions

    def __init__(self, options: ModerationOptions) -> None:
        self._options = options

    @property
    def route(self) -> str:
        """The route it asks."""
        return self._options.route

    async def ask(self, texts: Sequence[str], ask_route: AskRoute) -> list[Finding]:
        """One question for all texts."""
        size = self._options.max_chars
        pieces = [
            (n, at, text[at : at + size]) for n, text in enumerate(texts) for at in range(0, len(text), size)
        ]
        answers = await ask_route(self.route, [piece for _, _, piece in pieces])
        return [
            Finding(number, at, at + len(piece), label, score)
            for (number, at, piece), scores in zip(pieces, answers, strict=True)
            for label, score in scores.items()
            if self._counts(label)
        ]

    def _counts(self, label: str) -> bool:
        wanted = self._options.labels
        return label in wanted if wanted is not None else label not in self._options.safe_labels
