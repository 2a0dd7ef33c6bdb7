"""What every policy looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from foundry.gateway.routing.facts import Facts
from foundry.gateway.routing.targets import Candidate

Order = Callable[[Sequence[Candidate], Facts, Random], list[Candidate]]
"""(at least two candidates in the route's order, the request, a random source) -> the same candidates, best first."""


def load(candidate: Candidate) -> float:
    """Requests in flight and waiting per unit of weight; infinite for a target of weight 0."""
    if not candidate.weight:
        return float("inf")
    return (candidate.state.in_flight + candidate.state.waiting) / candidate.weight
