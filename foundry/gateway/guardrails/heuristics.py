"""What the guards `prompt_injection` and `jailbreak` share: GuardLayer's signature rules, by the category of the rule.

GuardLayer (MIT, no dependencies, no model) undoes common disguises (spaced letters, look-alike characters, base64) and matches
signatures in several languages. Signatures find known phrasings, not every attack: where a miss is expensive, add a
`moderation` guard that asks a prompt-guard model. What it does not know: which categories a guard wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from foundry.gateway.guardrails.base import SAID_BY_CALLER, Finding, Guard, GuardOptions, Role, Where

if TYPE_CHECKING:
    from guardlayer import HeuristicScanner


class HeuristicOptions(GuardOptions):
    """Which rules not to use."""

    roles: tuple[Role, ...] | None = SAID_BY_CALLER
    """A system prompt may well say what must not be revealed: only users and tools are looked at."""
    without_rules: tuple[str, ...] = ()
    """GuardLayer's names of rules that are wrong for this traffic, as told in findings ("prompt_injection.from_now_on")."""


class Heuristics(Guard):
    """Base of the guards by signature; scores are GuardLayer's severities."""

    where: ClassVar[Where] = "worker"
    Options: ClassVar[type[GuardOptions]] = HeuristicOptions
    libraries: ClassVar[tuple[str, ...]] = ("guardlayer",)
    categories: ClassVar[frozenset[str]]
    """GuardLayer's categories of rules that are this guard's."""

    def __init__(self, options: HeuristicOptions) -> None:
        self._scanner = _scanner(self.categories, options.without_rules)

    def inspect(self, texts: Sequence[str]) -> list[Finding]:
        """One finding per rule and text; over the whole text where the rule matched behind a disguise."""
        from guardlayer import ScanContext

        context = ScanContext(direction="input")
        found: list[Finding] = []
        for number, text in enumerate(texts):
            for hit in self._scanner.scan(text, context):
                start, end = hit.span or (0, len(text))
                found.append(Finding(number, start, end, f"{hit.category}.{hit.rule}", hit.severity))
        return found


def _scanner(categories: frozenset[str], without: tuple[str, ...]) -> HeuristicScanner:
    from guardlayer import HeuristicScanner

    rules = [
        rule
        for rule in HeuristicScanner().rules
        if str(rule.category) in categories and f"{rule.category}.{rule.name}" not in without
    ]
    return HeuristicScanner(rules=rules)
