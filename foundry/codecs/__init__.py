"""Wire protocols: what callers speak (`CODECS`, by public path) and how each is spoken with a target (`LEGS`). Pure functions.

To add a protocol: a file with its codec, a line in `CODECS`, and a line in `LEGS` per wire that can serve it.
"""

from __future__ import annotations

from foundry.codecs.audio import AUDIO_CODECS, AUDIO_LEGS
from foundry.codecs.base import Codec, Leg
from foundry.codecs.images import IMAGE_CODECS, IMAGE_LEGS
from foundry.codecs.openai import CHAT, COMPLETIONS, EMBEDDINGS, OpenAILeg
from foundry.codecs.pooling import POOLING_CODECS, POOLING_LEGS

_ALL: tuple[Codec, ...] = (CHAT, COMPLETIONS, EMBEDDINGS, *POOLING_CODECS, *AUDIO_CODECS, *IMAGE_CODECS)
CODECS: dict[str, Codec] = {codec.path: codec for codec in _ALL}
"""By public path."""

LEGS: dict[tuple[str, str], Leg] = {
    (CHAT.name, "openai"): OpenAILeg(CHAT.path),
    (COMPLETIONS.name, "openai"): OpenAILeg(COMPLETIONS.path),
    (EMBEDDINGS.name, "openai"): OpenAILeg(EMBEDDINGS.path),
    **{(name, "openai"): leg for name, leg in (POOLING_LEGS | AUDIO_LEGS | IMAGE_LEGS).items()},
}
"""By caller's protocol (`Codec.name`) and target's wire."""
