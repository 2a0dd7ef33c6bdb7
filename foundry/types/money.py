"""Prices as data. Money is `Decimal` in US dollars, everywhere; floats never touch it.

What it does not know: where prices come from (`pricing/`), or who pays.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

UsdPerMtok = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=6)]
"""US dollars per million tokens; at most six decimals, so that price x tokens is exact in 12."""


class TokenPrice(BaseModel):
    """What one million tokens cost on one target."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    price_id: str
    """Names the row and its validity, e.g. "openai/gpt-4o-mini@2026-01-01": it goes into every usage
    record."""
    input_per_mtok_usd: UsdPerMtok
    """Input tokens charged at full rate, cached ones excluded."""
    cached_input_per_mtok_usd: UsdPerMtok | None = None
    """Input tokens read from a prompt cache; None: charged at the full input rate."""
    output_per_mtok_usd: UsdPerMtok
    """Output tokens, reasoning tokens included."""
    source: str
    """Where the number comes from: a public price list with its date, or "operator"."""
