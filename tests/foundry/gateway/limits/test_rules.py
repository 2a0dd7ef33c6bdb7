"""Which limits hold for whom, and what a request reserves."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from foundry.codecs.base import Call
from foundry.errors import PriceUnknown
from foundry.gateway.limits.estimate import DEFAULT_OUTPUT_TOKENS, MEDIA_TOKENS, estimate
from foundry.gateway.limits.rules import LimitRules, usd_to_units
from foundry.types.deployment import Task
from foundry.types.money import Price
from foundry.types.snapshot import KeyEntry, RouteEntry, Snapshot
from tests.foundry.gateway.limits.cluster import KEY, limit, rules, target

CHEAP = Price(price_id="cheap", input_per_mtok_usd=Decimal(1), output_per_mtok_usd=Decimal(2), source="test")
DEAR = Price(
    price_id="dear", input_per_mtok_usd=Decimal("1.5"), cache_write_per_mtok_usd=Decimal(4), output_per_mtok_usd=Decimal(3),
    per_request_usd=Decimal("0.01"), source="test",
)  # fmt: skip


def _call(**more: Any) -> Call:
    return Call(model="r", stream=False, fields={"messages": msgspec.Raw(b"[]")}, **more)


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"scope": "key"}, True),
        ({"scope": "key", "subjects": ("k",)}, True),
        ({"scope": "key", "subjects": ("other",)}, False),
        ({"scope": "project", "subjects": ("p",)}, True),
        ({"scope": "organization", "subjects": ("o",), "routes": ("r",)}, True),
        ({"scope": "route", "routes": ("other",)}, False),
        ({"scope": "route", "subjects": ("other",)}, False),
        ({"scope": "model", "subjects": ("m",)}, True),
        ({"scope": "model", "subjects": ("other",)}, False),
        ({"scope": "user"}, True),
    ],
)
def test_a_limit_holds_for_its_subjects_and_routes(fields: dict[str, Any], holds: bool) -> None:
    assert (rules(limit("requests", 1, **fields)).binding(KEY, "r") is not None) is holds


def test_without_limits_nothing_holds() -> None:
    assert rules().binding(KEY, "r") is None


def test_end_users_count_apart_within_their_project_and_the_nameless_together() -> None:
    bound = rules(
        limit("requests", 1, scope="user"),
        limit("requests", 1, name="one", scope="user", subjects=("p/ann",)),
    ).binding(KEY, "r")
    assert bound is not None
    assert [key for _, key in bound.of_user("ann")] == [
        ("l/requests/day", "p/ann"),
        ("one/requests/day", "p/ann"),
    ]
    assert [key for _, key in bound.of_user("")] == [("l/requests/day", "p/")]


def test_a_budget_reserves_at_the_dearest_rate_of_every_target() -> None:
    bound = rules(limit("usd", 1), targets=(target("a", CHEAP), target("b", DEAR))).binding(KEY, "r")
    assert bound is not None
    dearest = 100 * Decimal(4) / 1_000_000 + 50 * Decimal(3) / 1_000_000 + Decimal("0.01")
    assert bound.demand(_call(max_output_tokens=50), 300) == (1, 100, 50, 150, 1, usd_to_units(dearest))


def test_targets_of_fallback_routes_count_among_them() -> None:
    now = datetime.now(UTC)
    first = RouteEntry.model_validate({
        "name": "r", "task": "generate", "targets": (target("a", CHEAP),), "created_at": now, "routing": {"fallbacks": ("s",)},
    })  # fmt: skip
    second = RouteEntry(name="s", task=Task.GENERATE, targets=(target("b", DEAR),), created_at=now)
    made = LimitRules(
        Snapshot(
            cluster="c",
            version=1,
            issued_at=now,
            keys=(KEY,),
            routes=(first, second),
            limits=(limit("usd", 1),),
        )
    )
    bound = made.binding(KEY, "r")
    assert bound is not None
    assert bound.demand(_call(), 3)[5] > usd_to_units(Decimal("0.01"))


def test_a_budget_rules_out_targets_without_a_price_and_refuses_when_none_is_left() -> None:
    some = rules(limit("usd", 1), targets=(target("a", CHEAP), target("b"))).binding(KEY, "r")
    assert some is not None
    assert some.unpriced == {"engine/b"}
    some.demand(_call(), 3)
    none = rules(limit("usd", 1), targets=(target("a"), target("b"))).binding(KEY, "r")
    assert none is not None
    with pytest.raises(PriceUnknown, match=r"budget 'l'.*no target of 'r'"):
        none.demand(_call(), 3)


def test_the_callers_bound_is_reserved_and_else_a_default() -> None:
    assert estimate(Task.GENERATE, _call(max_output_tokens=7), 30).output_tokens == 7
    assert estimate(Task.GENERATE, _call(), 30).output_tokens == DEFAULT_OUTPUT_TOKENS
    assert estimate(Task.EMBED, _call(), 30).output_tokens == 0


def test_what_callers_make_up_neither_credits_nor_swells_a_counter() -> None:
    bound = rules(limit("tokens", 1), limit("tokens", 1, name="u", scope="user")).binding(KEY, "r")
    assert bound is not None
    assert min(bound.demand(_call(max_output_tokens=-(10**9)), 0)) >= 0
    assert bound.demand(_call(max_output_tokens=-(10**9)), 0)[3] == 1
    [(_, (_, subject))] = bound.of_user("x" * 10_000)
    assert len(subject) < 100


def test_an_image_in_the_body_does_not_count_by_its_bytes() -> None:
    picture = b'[{"url":"data:image/png;base64,' + b"A" * 300_000 + b'"},"' + b"word " * 30 + b'"]'
    call = Call(model="r", stream=False, fields={"messages": msgspec.Raw(picture)})
    tokens = estimate(Task.GENERATE, call, len(picture) + 40).input_tokens
    assert MEDIA_TOKENS < tokens < MEDIA_TOKENS + 200


def test_units_of_other_tasks() -> None:
    sound = Call(model="r", stream=False, fields={}, body=b"x" * 40_000)
    assert estimate(Task.TRANSCRIBE, sound, 40_000).audio_ms == 10_000
    images = Call(model="r", stream=False, fields={"n": msgspec.Raw(b"3")})
    assert estimate(Task.IMAGE, images, 30).images == 3
    assert estimate(Task.SPEAK, _call(), 30).characters == 30
    assert estimate(Task.RERANK, _call(), 30).searches == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"meter": "requests", "window": None},
        {"meter": "concurrency", "window": "day"},
        {"meter": "tokens", "amount": Decimal("1.5")},
        {"meter": "tokens", "time_zone": "Mars/Base"},
        {"meter": "tokens", "time_zone": "../etc/passwd"},
    ],
)
def test_a_limit_that_means_nothing_is_refused(fields: dict[str, Any]) -> None:
    whole = {"name": "l", "scope": "key", "amount": Decimal(1), "window": "day"}
    with pytest.raises(ValidationError):
        type(limit("requests", 1)).model_validate({**whole, **fields})


def test_keys_of_other_projects_meet_other_limits() -> None:
    made = rules(limit("requests", 1, subjects=("p",)))
    other = KeyEntry(
        key_id="k2", key_hash="1" * 64, organization_id="o", project_id="q", scopes=("inference",)
    )
    assert made.binding(KEY, "r") is not None
    assert made.binding(other, "r") is None
