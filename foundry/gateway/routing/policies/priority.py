"""In the order that the route gives."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from foundry.gateway.routing.facts import Facts
from foundry.gateway.routing.targets import Candidate


def order(candidates: Sequence[Candidate], _facts: Facts, _random: Random) -> list[Candidate]:
    """As they stand."""
    return list(candidates)
