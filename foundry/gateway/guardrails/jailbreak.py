"""Guard `jailbreak`: attempts to talk the model out of its own rules (personas without limits, "developer mode").

What it does not know: whether the model would have followed.
"""

from __future__ import annotations

from typing import ClassVar

from foundry.gateway.guardrails.heuristics import Heuristics


class Jailbreak(Heuristics):
    """GuardLayer's rules against jailbreaks."""

    kind: ClassVar[str] = "jailbreak"
    categories: ClassVar[frozenset[str]] = frozenset({"jailbreak"})
