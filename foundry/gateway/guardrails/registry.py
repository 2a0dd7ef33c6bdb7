"""The kinds of guards: `GUARDS`, one line each.

What it does not know: how they work, what follows from their findings.
"""

from __future__ import annotations

from foundry.errors import ConfigurationError
from foundry.gateway.guardrails.base import Guard
from foundry.gateway.guardrails.jailbreak import Jailbreak
from foundry.gateway.guardrails.json_schemas import JsonSchema
from foundry.gateway.guardrails.moderation import Moderation
from foundry.gateway.guardrails.patterns import Patterns
from foundry.gateway.guardrails.pii import Pii
from foundry.gateway.guardrails.prompt_injection import PromptInjection
from foundry.gateway.guardrails.secret_leaks import SecretLeaks
from foundry.types.guardrails import GuardEntry, GuardrailProfile

GUARDS: dict[str, type[Guard]] = {
    guard.kind: guard
    for guard in (Jailbreak, JsonSchema, Moderation, Patterns, Pii, PromptInjection, SecretLeaks)
}
"""Kind to class."""


def check_entry(entry: GuardEntry) -> type[Guard]:
    """The kind's class. Raises ConfigurationError naming the kind, stage, action, option or missing library."""
    kind = GUARDS.get(entry.kind)
    if kind is None:
        raise ConfigurationError(
            f"there is no guard of kind '{entry.kind}': use one of {', '.join(sorted(GUARDS))}", param="kind"
        )
    unfit = [stage for stage in entry.stages if stage not in kind.stages]
    if unfit or not entry.stages:
        raise ConfigurationError(
            f"guard '{entry.kind}' works at the stages {', '.join(sorted(kind.stages))}, not at {', '.join(unfit) or 'none'}",
            param="stages",
        )
    if entry.action == "redact" and not kind.redacts:
        raise ConfigurationError(
            f"guard '{entry.kind}' judges whole texts, it cannot redact: use block or flag", param="action"
        )
    kind.options_of(entry.options)
    kind.require_libraries()
    return kind


def check_profile(profile: GuardrailProfile) -> None:
    """Called where profiles are made. Raises ConfigurationError for the first guard that could not work."""
    for entry in profile.guards:
        check_entry(entry)
