"""Lowest price for this request's estimated tokens first; targets without a price last; equals in the route's order."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from foundry.gateway.routing.facts import Facts
from foundry.gateway.routing.targets import Candidate


def order(candidates: Sequence[Candidate], facts: Facts, _random: Random) -> list[Candidate]:
    """Ascending by estimated cost."""
    input_tokens, output_tokens = facts.input_tokens, facts.output_tokens
    keyed = [
        (_cost(candidate, input_tokens, output_tokens), place) for place, candidate in enumerate(candidates)
    ]
    keyed.sort()
    return [candidates[place] for _, place in keyed]


def _cost(candidate: Candidate, input_tokens: int, output_tokens: int) -> float:
    rate = candidate.usd_per_input_token
    if rate is None:
        return float("inf")
    return rate * input_tokens + candidate.usd_per_output_token * output_tokens
