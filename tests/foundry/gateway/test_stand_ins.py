"""Who may answer in a route's place: fallbacks of fallbacks too, overflow routes, circles, and names that do not exist."""

from __future__ import annotations

from typing import Any

import pytest

from foundry.gateway.stand_ins import with_stand_ins
from tests.foundry.gateway.routing.conftest import route, target

ROUTES: dict[str, dict[str, Any]] = {
    "lone": {},
    "a": {"fallbacks": ("b", "gone")},
    "b": {"fallbacks": ("a",), "hold": {"overflow_route": "c"}},
    "c": {"fallbacks": ("lone",)},
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lone", {"lone"}),
        ("a", {"a", "b", "c", "lone"}),
        ("b", {"a", "b", "c", "lone"}),
        ("c", {"c", "lone"}),
    ],
)
def test_everybody_who_may_answer_is_found_once(name: str, expected: set[str]) -> None:
    routes = {each: route(each, target("t"), routing=routing) for each, routing in ROUTES.items()}
    found = [entry.name for entry in with_stand_ins(routes[name], routes)]
    assert found[0] == name
    assert sorted(found) == sorted(expected)
