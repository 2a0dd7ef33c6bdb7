"""Guard `secrets`: credentials by the detectors of detect-secrets (Yelp), and virtual keys of Foundry itself.

Its entropy detectors and its keyword detector are made for source code and are off unless asked for. Runs in the worker
process: 27 detectors over a long text hold the interpreter for milliseconds. What it does not know: whether a credential
is still valid (detect-secrets' network checks are never run).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from foundry.errors import ConfigurationError
from foundry.gateway.guardrails.base import Finding, Guard, GuardOptions, Where
from foundry.gateway.keys import KEY_PREFIX

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

_NOT_FOR_PROSE = frozenset(
    {"Base64 High Entropy String", "Hex High Entropy String", "Public IP (ipv4)", "Secret Keyword"}
)
_OWN_KEY = re.compile(rf"\b{KEY_PREFIX}[A-Za-z0-9_-]{{43}}")
_REST_OF_TOKEN = re.compile(r"[A-Za-z0-9_.+/=-]*")
_END_OF_BLOCK = re.compile(r"-----END [A-Z0-9 ]+-----")


class SecretOptions(GuardOptions):
    """Which detectors."""

    detectors: tuple[str, ...] | None = None
    """detect-secrets' names of types, e.g. "AWS Access Key"; None: every one that is made for prose."""


class SecretLeaks(Guard):
    """Every credential as a whole, with score 1; a private key up to the end of its block."""

    kind: ClassVar[str] = "secrets"
    where: ClassVar[Where] = "worker"
    Options: ClassVar[type[GuardOptions]] = SecretOptions
    libraries: ClassVar[tuple[str, ...]] = ("detect_secrets",)

    def __init__(self, options: SecretOptions) -> None:
        self._detectors = _detectors(options.detectors)
        self._own = options.detectors is None

    def inspect(self, texts: Sequence[str]) -> list[Finding]:
        """Every detector over each text."""
        return [
            Finding(number, start, end, label, 1.0)
            for number, text in enumerate(texts)
            for start, end, label in self._spans(text)
        ]

    def _spans(self, text: str) -> Iterator[tuple[int, int, str]]:
        if self._own:
            yield from ((*match.span(), "Foundry Key") for match in _OWN_KEY.finditer(text))
        for detector in self._detectors:
            if any(True for _ in detector.analyze_string(text)):
                for pattern in detector.denylist:
                    for match in pattern.finditer(text):
                        yield match.start(), _end(text, match.end()), detector.secret_type


def _end(text: str, end: int) -> int:
    """Where the secret ends of which a detector matched the beginning."""
    if "PRIVATE KEY" in text[max(0, end - 32) : end]:
        block = _END_OF_BLOCK.search(text, end)
        return block.end() if block else len(text)
    rest = _REST_OF_TOKEN.match(text, end)
    return rest.end() if rest else end


def _detectors(names: tuple[str, ...] | None) -> tuple[RegexBasedDetector, ...]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    known = {
        name: detector
        for name, detector in get_mapping_from_secret_type_to_class().items()
        if issubclass(detector, RegexBasedDetector)
    }
    if names is None:
        return tuple(detector() for name, detector in known.items() if name not in _NOT_FOR_PROSE)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigurationError(
            f"guard 'secrets': detect-secrets has no detector {', '.join(unknown)}; it has {', '.join(sorted(known))}",
            param="detectors",
        )
    return tuple(known[name]() for name in names)
