"""The legs of conversations, by caller's protocol and target's wire: `CHAT_LEGS`.

One line per pair. What it does not know: how any of them works.
"""

from __future__ import annotations

from foundry.codecs.anthropic_codec import CountOverAnthropic, CountOverEngine
from foundry.codecs.anthropic_dialect import ANTHROPIC, MESSAGES_CALLER
from foundry.codecs.anthropic_through import AnthropicLeg
from foundry.codecs.base import Leg
from foundry.codecs.chat_dialect import CHAT_CALLER, OPENAI_CHAT
from foundry.codecs.responses_codec import RESPONSES_CALLER
from foundry.codecs.responses_through import ResponsesLeg
from foundry.codecs.translate import Translated

CHAT_LEGS: dict[tuple[str, str], Leg] = {
    ("chat", "anthropic"): Translated(CHAT_CALLER, ANTHROPIC),
    ("messages", "openai"): Translated(MESSAGES_CALLER, OPENAI_CHAT),
    ("messages", "anthropic"): AnthropicLeg(),
    ("responses", "openai"): Translated(RESPONSES_CALLER, OPENAI_CHAT),
    ("responses", "anthropic"): Translated(RESPONSES_CALLER, ANTHROPIC),
    ("responses", "openai-responses"): ResponsesLeg(),
    ("count_tokens", "anthropic"): CountOverAnthropic(),
    ("count_tokens", "openai"): CountOverEngine(),
}
"""By `Codec.name` and wire."""
