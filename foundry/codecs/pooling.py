"""Moderations, classify, rerank and score: JSON in, JSON out, nothing generated.

Moderations are OpenAI's; classify and score are vLLM's; rerank is what Jina, vLLM, SGLang and Together agree on (Cohere's own
wire is a leg of its own). An embedding model serves score and rerank too: vLLM compares the vectors. What it does not
know: I/O, money.
"""

from __future__ import annotations

from dataclasses import dataclass

from foundry.codecs.base import JSON, Answer, Call
from foundry.codecs.fields import text
from foundry.codecs.media_usage import pooling_counts
from foundry.codecs.openai_media import MediaCodec, MediaLeg, user_of
from foundry.types.deployment import Task
from foundry.types.usage import UsageCounts

_SIMILARITY = frozenset({Task.RERANK, Task.EMBED})
_PAIRS = ("text_1", "queries", "data_1"), ("text_2", "documents", "items", "data_2")
_DEFAULT_MODERATION_MODEL = "omni-moderation-latest"
"""OpenAI's documented default, so that a client which names no model finds the route of that name."""


@dataclass(frozen=True, slots=True)
class ModerationCodec(MediaCodec):
    """OpenAI's moderations: the one endpoint whose `model` may be left out."""

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody, UnsupportedMedia or InvalidParameter."""
        fields = MediaCodec.members(self, body, content_type)
        given = text(fields, "model")
        return Call(
            model=given or _DEFAULT_MODERATION_MODEL, stream=False, fields=fields, user=user_of(fields)
        )


@dataclass(frozen=True, slots=True)
class ModerationLeg(MediaLeg):
    """To a target that has OpenAI's endpoint."""

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """Moderation is free at OpenAI, which tells no usage: nothing told is nothing charged."""
        del call
        return Answer(body, pooling_counts(body) or UsageCounts(), content_type=content_type or JSON)


MODERATIONS = ModerationCodec("moderations", "/v1/moderations", frozenset({Task.MODERATE}), (("input",),))


def _codecs(
    name: str, tasks: frozenset[Task], required: tuple[tuple[str, ...], ...], *paths: str
) -> list[MediaCodec]:
    return [MediaCodec(name, path, tasks, required) for path in paths]


POOLING_CODECS: tuple[MediaCodec, ...] = (
    MODERATIONS,
    *_codecs(
        "classify",
        frozenset({Task.CLASSIFY, Task.MODERATE}),
        (("input", "messages"),),
        "/v1/classify",
        "/classify",
    ),
    *_codecs("rerank", _SIMILARITY, (("query",), ("documents",)), "/v1/rerank", "/rerank", "/v2/rerank"),
    *_codecs("score", _SIMILARITY, _PAIRS, "/v1/score", "/score"),
)
POOLING_LEGS: dict[str, MediaLeg] = {
    "moderations": ModerationLeg("moderations", "/v1/moderations"),
    "classify": MediaLeg("classify", "/classify"),
    "rerank": MediaLeg("rerank", "/v1/rerank"),
    "score": MediaLeg("score", "/score"),  # at /v1/score vLLM logs a warning per request
}
"""Codec to its leg over the wire "openai"."""
