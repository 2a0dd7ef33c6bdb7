"""Lowest measured time to first token first.

Only streamed answers measure it. A target that was never measured comes first while nothing is in flight there, so that it
is; one request in fifty tries another target first, so that a slow one that recovered is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from foundry.gateway.routing.facts import Facts
from foundry.gateway.routing.targets import Candidate

EXPLORE_SHARE = 0.02


def order(candidates: Sequence[Candidate], _facts: Facts, random: Random) -> list[Candidate]:
    """Ascending by the moving average; unmeasured ones first if idle, else last."""
    keyed = [(_expected_ms(candidate), place) for place, candidate in enumerate(candidates)]
    keyed.sort()
    places = [place for _, place in keyed]
    if random.random() < EXPLORE_SHARE:
        places.insert(0, places.pop(1 + int(random.random() * (len(places) - 1))))
    return [candidates[place] for place in places]


def _expected_ms(candidate: Candidate) -> float:
    measured = candidate.state.ttft_ms
    if measured is not None:
        return measured
    return float("inf") if candidate.state.in_flight else 0.0
