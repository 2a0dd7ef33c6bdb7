"""Guard `prompt_injection`: orders to the model that are not its operator's, its prompt drawn out, data sent elsewhere.

What it does not know: whether the model would have followed.
"""

from __future__ import annotations

from typing import ClassVar

from foundry.gateway.guardrails.heuristics import Heuristics


class PromptInjection(Heuristics):
    """GuardLayer's rules against injection, prompt leaks and exfiltration."""

    kind: ClassVar[str] = "prompt_injection"
    categories: ClassVar[frozenset[str]] = frozenset(
        {"prompt_injection", "system_prompt_leak", "data_exfiltration"}
    )
