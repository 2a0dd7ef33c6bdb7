"""Which routes may answer a request in place of the one that it asked for. What it does not know: when they do (`routing/`)."""

from __future__ import annotations

from collections.abc import Mapping

from foundry.types.snapshot import RouteEntry


def with_stand_ins(route: RouteEntry, routes: Mapping[str, RouteEntry]) -> list[RouteEntry]:
    """The route itself, then every route that it falls back or overflows to, and theirs. Limits, budgets and guardrails go by
    all of them, as nobody knows beforehand who will answer."""
    found, waiting = {route.name: route}, [route]
    while waiting:
        routing = waiting.pop().routing
        names = [*routing.fallbacks, routing.hold.overflow_route]
        for name in names:
            other = routes.get(name) if name else None
            if other is not None and other.name not in found:
                found[other.name] = other
                waiting.append(other)
    return list(found.values())
