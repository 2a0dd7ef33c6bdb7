"""Prices as data. Money is `Decimal` in US dollars, everywhere; floats never touch it.

What it does not know: where prices come from (`pricing/`), or who pays.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

UsdPerMtok = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=6)]
"""US dollars per million tokens; at most six decimals, so that price x tokens is exact in 12."""
UsdPerUnit = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=9)]
"""US dollars per image, second, search or request; at most nine decimals, so that price x milliseconds is exact in 12."""


class TokenRates(BaseModel):
    """What tokens cost, by kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_per_mtok_usd: UsdPerMtok | None = None
    """Input tokens charged at full rate: text, neither read from a cache nor written to one."""
    cached_input_per_mtok_usd: UsdPerMtok | None = None
    """Input tokens read from a prompt cache; None: charged at the full input rate."""
    cache_write_per_mtok_usd: UsdPerMtok | None = None
    """Input tokens written to a prompt cache; None: charged at the full input rate."""
    audio_input_per_mtok_usd: UsdPerMtok | None = None
    """Input tokens that are sound; None: charged at the full input rate."""
    image_input_per_mtok_usd: UsdPerMtok | None = None
    """Input tokens that are images; None: charged at the full input rate."""
    output_per_mtok_usd: UsdPerMtok | None = None
    """Output tokens, reasoning tokens included."""
    audio_output_per_mtok_usd: UsdPerMtok | None = None
    """Output tokens that are sound; None: charged at the output rate."""
    image_output_per_mtok_usd: UsdPerMtok | None = None
    """Output tokens that are images; None: charged at the output rate."""


class LongPrompt(TokenRates):
    """The rates of a whole request whose prompt is long, for models that charge such requests more."""

    over_input_tokens: int = Field(gt=0)
    """Requests with more input tokens than this (cached ones included) are charged these rates, output included."""


class Price(TokenRates):
    """What one target charges, by kind of use. A kind that was used and has no price makes the cost unknown, never zero."""

    price_id: str
    """Names the row and its validity, e.g. "openai/gpt-4o-mini@2026-01-01": it goes into every usage
    record."""
    long_prompt: LongPrompt | None = None
    """None: long prompts cost no more."""
    per_image_usd: UsdPerUnit | None = None
    """One generated image, for models that are not charged by tokens."""
    per_audio_second_usd: UsdPerUnit | None = None
    """One second of sound that is transcribed or translated, charged by the millisecond."""
    per_mchar_usd: UsdPerMtok | None = None
    """One million characters of text that are spoken."""
    per_search_usd: UsdPerUnit | None = None
    """One search unit of a reranker (Cohere: one query with up to 100 documents)."""
    per_request_usd: UsdPerUnit = Decimal(0)
    """Added to each request that was answered, in whole or in part."""
    source: str
    """Where the number comes from: a public price list with its date, or "operator"."""
