"""Quantities x price = cost, exactly.

What it does not know: where the price comes from (the snapshot carries it), or who pays.
"""

from __future__ import annotations

from decimal import Decimal

from foundry.errors import PriceUnknown
from foundry.types.money import Price, TokenRates
from foundry.types.usage import UsageCounts

_MILLION = -6
"""Prices are per million tokens: a shift of six decimals, exact for every Decimal."""
_MILLISECONDS = -3


def cost_usd_of(price: Price | None, counts: UsageCounts) -> Decimal:
    """Cost in US dollars of one answered request: each quantity times the rate of its kind, plus the rate per request.

    Cached, written, audio and image tokens are parts of `input_tokens` (audio and image of `output_tokens`) that do not
    overlap, and are charged at their own rate where there is one. Reasoning tokens are part of `output_tokens`. Exact: at
    most 12 decimals, no rounding. Raises PriceUnknown when there is no price, or none for a kind that was used.
    """
    if price is None:
        raise PriceUnknown(
            "no price is known for this target: set one on the deployment or the route's target, or in prices.toml"
        )
    return (
        _tokens(_rates(price, counts), counts, price.price_id).scaleb(_MILLION)
        + _units(price, counts)
        + price.per_request_usd
    )


def _rates(price: Price, counts: UsageCounts) -> TokenRates:
    long = price.long_prompt
    return price if long is None or counts.input_tokens <= long.over_input_tokens else long


def _tokens(price: TokenRates, counts: UsageCounts, price_id: str) -> Decimal:
    full, output = price.input_per_mtok_usd, price.output_per_mtok_usd
    parts = counts.cached_input_tokens + counts.cache_write_tokens + counts.audio_input_tokens
    plain_input = counts.input_tokens - parts - counts.image_input_tokens
    plain_output = counts.output_tokens - counts.audio_output_tokens - counts.image_output_tokens
    return (
        _part(price_id, "input_per_mtok_usd", full, plain_input)
        + _part(
            price_id,
            "cached_input_per_mtok_usd",
            _or(price.cached_input_per_mtok_usd, full),
            counts.cached_input_tokens,
        )
        + _part(
            price_id,
            "cache_write_per_mtok_usd",
            _or(price.cache_write_per_mtok_usd, full),
            counts.cache_write_tokens,
        )
        + _part(
            price_id,
            "audio_input_per_mtok_usd",
            _or(price.audio_input_per_mtok_usd, full),
            counts.audio_input_tokens,
        )
        + _part(
            price_id,
            "image_input_per_mtok_usd",
            _or(price.image_input_per_mtok_usd, full),
            counts.image_input_tokens,
        )
        + _part(price_id, "output_per_mtok_usd", output, plain_output)
        + _part(
            price_id,
            "audio_output_per_mtok_usd",
            _or(price.audio_output_per_mtok_usd, output),
            counts.audio_output_tokens,
        )
        + _part(
            price_id,
            "image_output_per_mtok_usd",
            _or(price.image_output_per_mtok_usd, output),
            counts.image_output_tokens,
        )
    )


def _units(price: Price, counts: UsageCounts) -> Decimal:
    return (
        _part(price.price_id, "per_image_usd", price.per_image_usd, counts.images)
        + _part(price.price_id, "per_audio_second_usd", price.per_audio_second_usd, counts.audio_ms).scaleb(
            _MILLISECONDS
        )
        + _part(price.price_id, "per_mchar_usd", price.per_mchar_usd, counts.characters).scaleb(_MILLION)
        + _part(price.price_id, "per_search_usd", price.per_search_usd, counts.searches)
    )


def _or(rate: Decimal | None, otherwise: Decimal | None) -> Decimal | None:
    return otherwise if rate is None else rate


def _part(price_id: str, name: str, rate: Decimal | None, quantity: int) -> Decimal:
    if not quantity:
        return _ZERO
    if rate is None:
        raise PriceUnknown(f"{quantity} units were used that the price '{price_id}' has no {name} for")
    return rate * quantity


_ZERO = Decimal(0)
