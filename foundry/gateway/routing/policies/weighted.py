"""At random, each first as often as its weight's share; targets of weight 0 come last, as fallbacks only."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from random import Random

from foundry.gateway.routing.facts import Facts
from foundry.gateway.routing.targets import Candidate


def order(candidates: Sequence[Candidate], _facts: Facts, random: Random) -> list[Candidate]:
    """A weighted random permutation (Efraimidis and Spirakis, 2006): ascending by -ln(u) / weight."""
    keyed = [
        (-log(1.0 - random.random()) / candidate.weight if candidate.weight else float("inf"), place)
        for place, candidate in enumerate(candidates)
    ]
    keyed.sort()
    return [candidates[place] for _, place in keyed]
