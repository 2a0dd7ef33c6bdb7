"""The price book: every shipped row is sourced and sound, and the right row holds at the right time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from foundry.errors import ConfigurationError
from foundry.pricing.book import PriceBook, PriceRow, book, book_with, shipped_rows
from foundry.pricing.cost import cost_usd_of
from foundry.providers.vendors import vendors
from foundry.types.usage import UsageCounts

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def row(model: str, day: str, rate: str, **fields: Any) -> PriceRow:
    begins = date.fromisoformat(day)
    return PriceRow(
        provider="v", model=model, effective_from=begins, input_per_mtok_usd=Decimal(rate), **fields
    )


@pytest.mark.parametrize("price", shipped_rows(), ids=lambda p: f"{p.provider}/{p.model}@{p.effective_from}")
def test_a_shipped_row_is_sourced_and_sound(price: PriceRow) -> None:
    assert price.provider in vendors()
    assert "." in price.source
    assert "/" in price.source
    assert price.read is not None
    assert price.read >= price.effective_from or price.provider == "anthropic"
    assert price.input_per_mtok_usd
    if price.cached_input_per_mtok_usd is not None:
        assert price.cached_input_per_mtok_usd < price.input_per_mtok_usd
    if price.cache_write_per_mtok_usd is not None:
        assert price.cache_write_per_mtok_usd > price.input_per_mtok_usd
    if price.output_per_mtok_usd is not None:
        assert price.output_per_mtok_usd > price.input_per_mtok_usd
    if (long := price.long_prompt) is not None:
        assert long.input_per_mtok_usd is not None
        assert long.input_per_mtok_usd > price.input_per_mtok_usd
        given = {name for name in type(long).model_fields if getattr(long, name) is not None}
        missing = {n for n in given - {"over_input_tokens"} if getattr(price, n) is None}
        assert not missing


def test_there_are_forty_rows_and_none_twice() -> None:
    rows = shipped_rows()
    names = [(r.provider, name, r.effective_from) for r in rows for name in (r.model, *r.also)]
    assert len(rows) >= 40
    assert len(set(names)) == len(names)


def test_what_people_use_has_a_price_and_its_id_names_row_and_day() -> None:
    found = book().lookup("openai", "gpt-4o-mini-2024-07-18", NOW)
    assert found is not None
    assert found.price_id == "openai/gpt-4o-mini@2025-07-04"
    assert found.source.endswith("read 2025-07-04")
    assert (found.input_per_mtok_usd, found.output_per_mtok_usd) == (Decimal("0.15"), Decimal("0.6"))
    assert book().lookup("anthropic", "claude-sonnet-4-5-20250929", NOW) is not None
    for provider, model in (
        ("openai", "gpt-4o-mini-audio-preview"),
        ("openai", "nobody"),
        ("nobody", "gpt-4o"),
    ):
        assert book().lookup(provider, model, NOW) is None


def test_a_row_holds_from_its_day_until_the_next_or_its_end() -> None:
    prices = PriceBook([row("m", "2026-01-01", "1"), row("m", "2026-06-01", "2", until=date(2026, 9, 1))])

    def rate(*moment: int) -> Decimal | None:
        found = prices.lookup("v", "m", datetime(*moment, tzinfo=UTC))  # type: ignore[misc]  # year, month, day
        return None if found is None else found.input_per_mtok_usd

    assert rate(2025, 12, 31, 23, 59) is None
    assert rate(2026, 1, 1) == 1
    assert rate(2026, 5, 31, 23, 59) == 1
    assert rate(2026, 6, 1) == 2
    assert rate(2026, 9, 1) is None  # ended; the older row does not come back


def test_gemini_3_8_flash_ends_with_its_promotion() -> None:
    assert book().lookup("gemini", "gemini-3.8-flash", NOW) is not None
    assert book().lookup("gemini", "gemini-3.8-flash", datetime(2027, 1, 1, tzinfo=UTC)) is None


def test_exact_before_prefix_and_longer_before_shorter() -> None:
    prices = PriceBook(
        [
            row("a*", "2026-01-01", "1"),
            row("a-b*", "2026-01-01", "2"),
            row("a-b-c", "2026-01-01", "3", also=("x",)),
        ]
    )
    for model, rate in (("a-z", 1), ("a-b-z", 2), ("a-b-c", 3), ("x", 3)):
        found = prices.lookup("v", model, NOW)
        assert found is not None
        assert found.input_per_mtok_usd == rate


def test_an_operators_row_goes_before_the_shipped_ones() -> None:
    mine = book_with(
        [
            {
                "provider": "openai",
                "model": "gpt-4o*",
                "effective_from": "2026-01-01",
                "input_per_mtok_usd": "9.5",
            },
            {"provider": "mine", "model": "m", "effective_from": "2026-01-01", "per_request_usd": "0.001"},
        ]
    )
    found = mine.lookup("openai", "gpt-4o-mini", NOW)
    assert found is not None
    assert (found.price_id, found.source) == ("openai/gpt-4o*@2026-01-01", "operator")
    assert mine.lookup("mine", "m", NOW) is not None
    assert mine.lookup("anthropic", "claude-opus-4-5", NOW) == book().lookup(
        "anthropic", "claude-opus-4-5", NOW
    )


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"provider": "p", "model": "m", "effective_from": "2026-01-01"}, "at least one rate"),
        (
            {"provider": "p", "model": "m*x", "effective_from": "2026-01-01", "input_per_mtok_usd": "1"},
            r"0\.model",
        ),
        (
            {"provider": "p", "model": "m", "effective_from": "soon", "input_per_mtok_usd": "1"},
            r"0\.effective_from",
        ),
        (
            {
                "provider": "p",
                "model": "m",
                "effective_from": "2026-01-01",
                "input_per_mtok_usd": "0.0000001",
            },
            r"0\.input_per_mtok_usd",
        ),
    ],
)
def test_a_wrong_row_is_refused_by_place(fields: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigurationError, match=where):
        book_with([fields])


def test_a_long_prompt_is_charged_its_own_rates_for_the_whole_request() -> None:
    price = book().lookup("anthropic", "claude-haiku-5-5", NOW)
    assert price is not None
    short = UsageCounts(
        input_tokens=100_000, cached_input_tokens=40_000, cache_write_tokens=10_000, output_tokens=1_000
    )
    # 50,000 x 0.10 + 40,000 x 0.01 + 10,000 x 0.125 + 1,000 x 0.50, per million
    assert cost_usd_of(price, short) == Decimal("0.00715")
    long = UsageCounts(
        input_tokens=100_001, cached_input_tokens=40_000, cache_write_tokens=10_000, output_tokens=1_000
    )
    # 50,001 x 0.50 + 40,000 x 0.05 + 10,000 x 0.625 + 1,000 x 2.50, per million
    assert cost_usd_of(price, long) == Decimal("0.0357505")
