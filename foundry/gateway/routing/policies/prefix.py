"""Equal beginnings to equal targets, so that they meet warm prefix caches.

Weighted rendezvous hashing (a target that comes or goes moves only its own share), with bounded loads (Mirrokni, Thorup and
Zadimoghaddam, 2016): a target that has a quarter more in flight than its share gives way to the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from random import Random

from foundry.gateway.routing.facts import Facts
from foundry.gateway.routing.policies.base import load
from foundry.gateway.routing.targets import Candidate

_MASK = (1 << 64) - 1
OVERLOAD = 1.25
SLACK = 4
"""Requests in flight per unit of weight that are never too many: few requests are never spread for balance."""


def order(candidates: Sequence[Candidate], facts: Facts, _random: Random) -> list[Candidate]:
    """By hash, those over their bound behind the others."""
    prefix = facts.prefix64
    weights = sum(candidate.weight for candidate in candidates) or 1.0
    bound = SLACK + OVERLOAD * sum(candidate.state.in_flight for candidate in candidates) / weights
    keyed = [
        (load(candidate) > bound, _distance(prefix, candidate), place)
        for place, candidate in enumerate(candidates)
    ]
    keyed.sort()
    return [candidates[place] for _, _, place in keyed]


def _distance(prefix: int, candidate: Candidate) -> float:
    """-ln(u) / weight, where u in (0, 1) is a hash of both."""
    if not candidate.weight:
        return float("inf")
    return -log((_mixed(prefix ^ candidate.hash64) + 1) / (_MASK + 2)) / candidate.weight


def _mixed(bits: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)
