"""The legs of conversations, by caller's protocol and target's wire: `CHAT_LEGS`.

One line per pair. What it does not know: how any of them works.
"""

from __future__ import annotations

from foundry.codecs.anthropic_codec import COUNT_TOKENS, MESSAGES, CountOverAnthropic, CountOverEngine
from foundry.codecs.anthropic_dialect import ANTHROPIC, MESSAGES_CALLER
from foundry.codecs.anthropic_through import AnthropicLeg
from foundry.codecs.base import Codec, Leg
from foundry.codecs.bedrock import BEDROCK
from foundry.codecs.chat_dialect import CHAT_CALLER, OPENAI_CHAT
from foundry.codecs.gemini import GEMINI
from foundry.codecs.responses_codec import RESPONSES, RESPONSES_CALLER
from foundry.codecs.responses_through import ResponsesLeg
from foundry.codecs.translate import Translated

CHAT_CODECS: tuple[Codec, ...] = (MESSAGES, COUNT_TOKENS, RESPONSES)
"""Besides chat completions, which `openai.py` has."""

NATIVE_WIRES = {"messages": "anthropic", "count_tokens": "anthropic", "responses": "openai-responses"}
"""By `Codec.name`: the wire on which bytes pass through, to be taken before all others that a target speaks."""

CHAT_LEGS: dict[tuple[str, str], Leg] = {
    ("chat", "anthropic"): Translated(CHAT_CALLER, ANTHROPIC),
    ("messages", "openai"): Translated(MESSAGES_CALLER, OPENAI_CHAT),
    ("messages", "anthropic"): AnthropicLeg(),
    ("responses", "openai"): Translated(RESPONSES_CALLER, OPENAI_CHAT),
    ("responses", "anthropic"): Translated(RESPONSES_CALLER, ANTHROPIC),
    ("responses", "openai-responses"): ResponsesLeg(),
    ("chat", "gemini"): Translated(CHAT_CALLER, GEMINI),
    ("messages", "gemini"): Translated(MESSAGES_CALLER, GEMINI),
    ("responses", "gemini"): Translated(RESPONSES_CALLER, GEMINI),
    ("chat", "bedrock"): Translated(CHAT_CALLER, BEDROCK),
    ("messages", "bedrock"): Translated(MESSAGES_CALLER, BEDROCK),
    ("responses", "bedrock"): Translated(RESPONSES_CALLER, BEDROCK),
    ("count_tokens", "anthropic"): CountOverAnthropic(),
    ("count_tokens", "openai"): CountOverEngine(),
}
"""By `Codec.name` and wire."""
