"""Findings of `foundry.declare.rules` as an error of the API. What it does not know: nouns."""

from __future__ import annotations

from collections.abc import Iterable

from foundry.declare.rules import Finding
from foundry.errors import InvalidParameter
from foundry.located import dotted


def refuse(findings: Iterable[Finding]) -> None:
    """Raises InvalidParameter for the first error, and says how many more there are; warnings pass."""
    errors = [one for one in findings if one.severity == "error"]
    if errors:
        first, rest = errors[0], len(errors) - 1
        more = f" (and {rest} more)" if rest else ""
        where = dotted(first.path)
        raise InvalidParameter(
            f"{where}: {first.message}{more}" if where else first.message + more, param=where or None
        )
