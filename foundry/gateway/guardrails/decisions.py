"""What guards decided about one request: kept for its usage record, its response header and its error.

Only checks that acted, or failed, are kept; never the text. What it does not know: why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from foundry.errors import GuardrailBlocked
from foundry.types.guardrails import Stage

Acted = Literal["block", "redact", "flag", "error_open", "error_closed"]
"""error_open: the guard failed and the text passed. error_closed: it failed and the request was refused."""
_encoder = msgspec.json.Encoder()
_MAX_LABELS = 16


class Decision(msgspec.Struct, omit_defaults=True):
    """One check that acted. In a stream, all its windows together."""

    profile: str
    kind: str
    stage: Stage
    action: Acted
    labels: list[str] = []
    score: float = 0.0
    """The highest among the findings."""
    ms: float = 0.0
    """How long the guard took, all its calls together."""


class Decisions:
    """All of one request, in order."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, str, str], Decision] = {}

    def add(self, made: Decision) -> None:
        """Keep a decision; one that only repeats an earlier one of the same check is added to it."""
        name = (made.profile, made.kind, made.stage, made.action)
        known = self._made.get(name)
        if known is None:
            self._made[name] = made
            return
        known.labels = _union(known.labels, made.labels)
        known.score = max(known.score, made.score)
        known.ms = round(known.ms + made.ms, 3)

    def json(self) -> str:
        """For `UsageRecord.guardrails`; empty when nothing was decided."""
        return _encoder.encode(list(self._made.values())).decode() if self._made else ""

    def header(self) -> str:
        """For `x-foundry-guardrails`, e.g. "flag:pii, redact:secrets"; empty when nothing was decided."""
        return ", ".join(dict.fromkeys(f"{made.action}:{made.kind}" for made in self._made.values()))


def refusal(made: Decision) -> GuardrailBlocked:
    """The error of a decision to block: names the profile, the guard and what kind of thing it found, not the thing."""
    what = "what was sent" if made.stage == "input" else "what the model said"
    return GuardrailBlocked(
        f"guardrail profile '{made.profile}' ({made.kind}) refuses {what}: {', '.join(made.labels)}"
    )


def labels_of(labels: Iterable[str]) -> list[str]:
    """Distinct labels in order, the first few of them."""
    return list(dict.fromkeys(labels))[:_MAX_LABELS]


def _union(known: list[str], more: list[str]) -> list[str]:
    return labels_of((*known, *more))
