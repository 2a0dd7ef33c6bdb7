"""Fewest in flight and waiting per unit of weight first; equals are shuffled, so that idle targets share the work."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from foundry.gateway.routing.facts import Facts
from foundry.gateway.routing.policies.base import load
from foundry.gateway.routing.targets import Candidate


def order(candidates: Sequence[Candidate], _facts: Facts, random: Random) -> list[Candidate]:
    """Ascending by load."""
    keyed = [(load(candidate), random.random(), place) for place, candidate in enumerate(candidates)]
    keyed.sort()
    return [candidates[place] for _, _, place in keyed]
