"""What tokens of every kind cost here, and the sum written out: rates that share no factor, so that no mix-up of kinds goes unseen.

What it does not know: `foundry.pricing`, which it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from foundry.types.money import Price

Counts = Mapping[str, int]
"""By column of the usage record; what is not there is 0."""
COLUMNS = (
    "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "audio_input_tokens",
    "image_input_tokens", "audio_output_tokens", "image_output_tokens", "images", "audio_ms", "characters", "searches",
)  # fmt: skip
IN, CACHED, WRITTEN, OUT = Decimal("1.31"), Decimal("0.17"), Decimal("1.93"), Decimal("7.13")
AUDIO_IN, IMAGE_IN = Decimal("2.39"), Decimal("3.01")
"""Dollars per million tokens."""
IMAGE, SECOND, MCHAR, SEARCH = Decimal("0.0419"), Decimal("0.000107"), Decimal("15.7"), Decimal("0.00211")
"""Dollars per image, second of sound, million characters, search."""
PRICE = Price(
    price_id="matrix@1", source="test", input_per_mtok_usd=IN, cached_input_per_mtok_usd=CACHED,
    cache_write_per_mtok_usd=WRITTEN, audio_input_per_mtok_usd=AUDIO_IN, image_input_per_mtok_usd=IMAGE_IN,
    output_per_mtok_usd=OUT, per_image_usd=IMAGE, per_audio_second_usd=SECOND, per_mchar_usd=MCHAR, per_search_usd=SEARCH,
)  # fmt: skip


def cost_usd(counts: Counts) -> Decimal:
    """Reasoning is inside the output and costs no more; cached, written, sound and pictures are inside the input."""
    cached, written = counts.get("cached_input_tokens", 0), counts.get("cache_write_tokens", 0)
    sound, pictures = counts.get("audio_input_tokens", 0), counts.get("image_input_tokens", 0)
    plain = counts.get("input_tokens", 0) - cached - written - sound - pictures
    micro = (
        plain * IN
        + cached * CACHED
        + written * WRITTEN
        + sound * AUDIO_IN
        + pictures * IMAGE_IN
        + counts.get("output_tokens", 0) * OUT
        + counts.get("characters", 0) * MCHAR
    )
    seconds = Decimal(counts.get("audio_ms", 0)) / 1000
    return (
        micro / 1_000_000
        + seconds * SECOND
        + counts.get("images", 0) * IMAGE
        + counts.get("searches", 0) * SEARCH
    )
