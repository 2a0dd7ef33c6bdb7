"""The legs to vendors with protocols of their own: Gemini, Bedrock, Cohere.

One line per pair. What it does not know: how any of them works.
"""

from __future__ import annotations

from foundry.codecs.anthropic_dialect import MESSAGES_CALLER
from foundry.codecs.base import Leg
from foundry.codecs.bedrock import BEDROCK
from foundry.codecs.bedrock_embeddings import BEDROCK_EMBEDDINGS
from foundry.codecs.chat_dialect import CHAT_CALLER
from foundry.codecs.cohere import COHERE_RERANK
from foundry.codecs.gemini import GEMINI
from foundry.codecs.gemini_embeddings import GEMINI_EMBEDDINGS
from foundry.codecs.responses_codec import RESPONSES_CALLER
from foundry.codecs.translate import Translated

VENDOR_LEGS: dict[tuple[str, str], Leg] = {
    ("chat", "gemini"): Translated(CHAT_CALLER, GEMINI),
    ("messages", "gemini"): Translated(MESSAGES_CALLER, GEMINI),
    ("responses", "gemini"): Translated(RESPONSES_CALLER, GEMINI),
    ("chat", "bedrock"): Translated(CHAT_CALLER, BEDROCK),
    ("messages", "bedrock"): Translated(MESSAGES_CALLER, BEDROCK),
    ("responses", "bedrock"): Translated(RESPONSES_CALLER, BEDROCK),
    ("embeddings", "gemini"): GEMINI_EMBEDDINGS,
    ("embeddings", "bedrock"): BEDROCK_EMBEDDINGS,
    ("rerank", "cohere"): COHERE_RERANK,
}
"""By `Codec.name` and wire."""
