"""Tokens x price = cost, exactly.

What it does not know: where the price comes from (the snapshot carries it), or who pays.
"""

from __future__ import annotations

from decimal import Decimal

from foundry.errors import PriceUnknown
from foundry.types.money import TokenPrice
from foundry.types.usage import TokenCounts

_MILLION = -6
"""Prices are per million tokens: a shift of six decimals, exact for every Decimal."""


def token_cost_usd(price: TokenPrice | None, counts: TokenCounts) -> Decimal:
    """Cost in US dollars: full-rate input + cached input + output, each times its price per million tokens.

    Cached tokens are part of `input_tokens` and are charged at the cached rate where there is one. Reasoning
    tokens are part of `output_tokens`. Exact: at most 12 decimals, no rounding. Raises PriceUnknown when
    there is no price.
    """
    if price is None:
        raise PriceUnknown(
            "no price is known for this target: set one on the deployment or the route's target"
        )
    cached_rate = price.cached_input_per_mtok_usd
    if cached_rate is None:
        cached_rate = price.input_per_mtok_usd
    dollars_per_million = (
        price.input_per_mtok_usd * (counts.input_tokens - counts.cached_input_tokens)
        + cached_rate * counts.cached_input_tokens
        + price.output_per_mtok_usd * counts.output_tokens
    )
    return dollars_per_million.scaleb(_MILLION)
