"""What targets tell of the use of sound, images and pooling models, in OpenAI's shapes, vLLM's and the rerankers'.

    transcription   {"type": "duration", "seconds"} or {"type": "tokens", "input_tokens", "input_token_details", "output_tokens"}
    images          {"input_tokens", "input_tokens_details": {"text_tokens", "image_tokens"}, "output_tokens", ...}
    pooling         {"prompt_tokens", "total_tokens"}; rerankers also {"meta": {"billed_units": {"search_units"}}}

What it does not know: which endpoint an answer came from, money.
"""

from __future__ import annotations

import msgspec

from foundry.types.usage import UsageCounts

_MS = 1000


class TokenDetails(msgspec.Struct):
    """Of tokens, which kinds."""

    audio_tokens: int | None = None
    image_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class MediaUsage(msgspec.Struct):
    """The `usage` object, whichever modality it is of."""

    type: str | None = None
    """"tokens" or "duration": which of them is charged, where both are told."""
    input_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    seconds: float | None = None
    """Seconds of sound that are charged for."""
    characters: int | None = None
    input_token_details: TokenDetails | None = None
    """As transcriptions spell it."""
    input_tokens_details: TokenDetails | None = None
    """As images spell it."""
    output_tokens_details: TokenDetails | None = None
    reasoning_tokens: int | None = None
    """As `svg_usage` spells it."""

    def counts(self) -> UsageCounts | None:
        """The same in our terms, or None when it says nothing that we know."""
        if self.seconds is not None and self.type != "tokens":
            return UsageCounts(audio_ms=round(self.seconds * _MS))
        if self.characters is not None:
            return UsageCounts(characters=self.characters)
        output = _first(self.output_tokens, self.completion_tokens)
        given = _first(self.input_tokens, self.prompt_tokens)
        if given is None and self.total_tokens is not None:
            given = self.total_tokens - (output or 0)
        if given is None and output is None:
            return None
        inputs = self.input_tokens_details or self.input_token_details or TokenDetails()
        outputs = self.output_tokens_details or TokenDetails()
        return UsageCounts(
            input_tokens=given or 0,
            cached_input_tokens=inputs.cached_tokens or 0,
            output_tokens=output or 0,
            reasoning_tokens=outputs.reasoning_tokens or self.reasoning_tokens or 0,
            audio_input_tokens=inputs.audio_tokens or 0,
            image_input_tokens=inputs.image_tokens or 0,
            audio_output_tokens=outputs.audio_tokens or 0,
            image_output_tokens=outputs.image_tokens or 0,
        )


class BilledUnits(msgspec.Struct):
    """Cohere's words, which other rerankers took over."""

    search_units: int | None = None
    input_tokens: int | None = None


class Meta(msgspec.Struct):
    """Where rerankers put them."""

    billed_units: BilledUnits | None = None


class PoolingAnswer(msgspec.Struct):
    """An embedding-like answer, as far as money needs it."""

    usage: MediaUsage | None = None
    meta: Meta | None = None

    def counts(self) -> UsageCounts | None:
        """Tokens and search units, or None when nothing was told."""
        billed = self.meta.billed_units if self.meta else None
        if billed is not None and billed.search_units is not None:
            return UsageCounts(searches=billed.search_units)
        if billed is not None and billed.input_tokens is not None:
            return UsageCounts(input_tokens=billed.input_tokens)
        return self.usage.counts() if self.usage else None


_usage_only = msgspec.json.Decoder(PoolingAnswer)


def pooling_counts(body: bytes) -> UsageCounts | None:
    """Counts in a whole JSON answer, or None when it tells nothing readable."""
    try:
        return _usage_only.decode(body).counts()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
