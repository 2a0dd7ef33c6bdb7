"""Policies: in which order a route's targets are asked. One file each, and a line in `POLICIES`.

A policy is a function `order(candidates, facts, random)` that returns all of the candidates, best first. It is pure: equal
candidates, facts and random source give the same order. It does not look at health or room: the caller takes the first one
that is fit and has room (`plan.py`). What it does not know: snapshots, HTTP.
"""

from __future__ import annotations

from foundry.gateway.routing.policies import (
    cheapest,
    least_loaded,
    lowest_ttft,
    prefix,
    priority,
    weighted,
)
from foundry.gateway.routing.policies.base import Order
from foundry.types.routing import Policy

POLICIES: dict[Policy, Order] = {
    "priority": priority.order,
    "weighted": weighted.order,
    "least_loaded": least_loaded.order,
    "lowest_ttft": lowest_ttft.order,
    "cheapest": cheapest.order,
    "prefix": prefix.order,
}
