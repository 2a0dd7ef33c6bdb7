"""Wire protocols: what callers speak (`CODECS`, by public path) and how each is spoken with a target (`LEGS`). Pure functions.

To add a protocol: a file with its codec, a line in `CODECS`, and a line in `LEGS` per wire that can serve it.
"""

from __future__ import annotations

from foundry.codecs.base import Codec, Leg
from foundry.codecs.openai import CHAT, COMPLETIONS, EMBEDDINGS, OpenAILeg

CODECS: dict[str, Codec] = {codec.path: codec for codec in (CHAT, COMPLETIONS, EMBEDDINGS)}
"""By public path."""

LEGS: dict[tuple[str, str], Leg] = {
    (CHAT.name, "openai"): OpenAILeg(CHAT.path),
    (COMPLETIONS.name, "openai"): OpenAILeg(COMPLETIONS.path),
    (EMBEDDINGS.name, "openai"): OpenAILeg(EMBEDDINGS.path),
}
"""By caller's protocol (`Codec.name`) and target's wire."""
