"""Cost is exact, whatever the prices."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from foundry.errors import PriceUnknown
from foundry.pricing.cost import cost_usd_of
from foundry.types.money import Price
from foundry.types.usage import UsageCounts


def _price(rate_in: str, rate_out: str, cached: str | None = None) -> Price:
    return Price(
        price_id="p", input_per_mtok_usd=Decimal(rate_in), output_per_mtok_usd=Decimal(rate_out), source="test",
        cached_input_per_mtok_usd=None if cached is None else Decimal(cached),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("price", "counts", "expected"),
    [
        (_price("0.15", "0.60"), UsageCounts(input_tokens=1, output_tokens=1), "0.00000075"),
        (
            _price("2.50", "10", "1.25"),
            UsageCounts(input_tokens=100, cached_input_tokens=40, output_tokens=7),
            "0.00027",
        ),
        (
            _price("2.50", "10"),
            UsageCounts(input_tokens=100, cached_input_tokens=40, output_tokens=7),
            "0.00032",
        ),
        (_price("3", "15", "0"), UsageCounts(input_tokens=10, cached_input_tokens=10), "0"),
        (
            _price("999999.999999", "0.000001"),
            UsageCounts(input_tokens=10**9, output_tokens=1),
            "999999999.999000000001",
        ),
    ],
)
def test_cost(price: Price, counts: UsageCounts, expected: str) -> None:
    assert cost_usd_of(price, counts) == Decimal(expected)


def test_cost_equals_exact_fractions() -> None:
    price = _price("0.123457", "7.654321", "0.061729")
    for tokens in range(1, 2000, 37):
        counts = UsageCounts(input_tokens=tokens * 3, cached_input_tokens=tokens, output_tokens=tokens * 2)
        exact = Fraction(123457 * tokens * 2 + 61729 * tokens + 7654321 * tokens * 2, 10**12)
        assert Fraction(cost_usd_of(price, counts)) == exact


def test_no_price_is_not_zero() -> None:
    with pytest.raises(PriceUnknown):
        cost_usd_of(None, UsageCounts(input_tokens=1))
