"""Google Gemini as a target of embeddings: batchEmbedContents.

Gemini tells no counts for embeddings as of this writing; when it does (`usageMetadata`), they are taken. What it does not know:
OpenAI's shapes (`vendor_embeddings.py`), I/O.
"""

from __future__ import annotations

import msgspec

from foundry.codecs.base import TargetFacts, Told, UpstreamRequest
from foundry.codecs.gemini import model_name, model_path
from foundry.codecs.gemini_answers import told
from foundry.codecs.vendor_embeddings import EmbeddingLeg, Made, Wanted
from foundry.errors import UpstreamBroke

_encoder = msgspec.json.Encoder()


class _Vector(msgspec.Struct):
    values: list[float] = []


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None


class _Answer(msgspec.Struct, rename="camel"):
    embeddings: list[_Vector]
    usage_metadata: _Usage | None = None


_answer = msgspec.json.Decoder(_Answer)


class GeminiEmbeddings:
    """All texts in one call."""

    def write(self, wanted: Wanted, target: TargetFacts) -> UpstreamRequest:
        """One request per text, batched; `task_type` as Gemini names it, e.g. "RETRIEVAL_QUERY"."""
        shared: dict[str, object] = {"model": model_name(target)}
        if wanted.dimensions is not None:
            shared["outputDimensionality"] = wanted.dimensions
        if wanted.kind is not None:
            shared["taskType"] = wanted.kind
        requests = [{**shared, "content": {"parts": [{"text": text}]}} for text in wanted.texts]
        return UpstreamRequest(
            path=f"{model_path(target)}:batchEmbedContents", body=_encoder.encode({"requests": requests})
        )

    def read(self, body: bytes) -> Made:
        """The vectors. Raises UpstreamBroke."""
        try:
            answer = _answer.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UpstreamBroke(f"Gemini's embeddings cannot be read: {error}") from error
        usage = answer.usage_metadata
        return Made(
            [vector.values for vector in answer.embeddings], usage.prompt_token_count if usage else None
        )

    def told(self, body: bytes) -> Told:
        """An error's words."""
        return told(body)


GEMINI_EMBEDDINGS = EmbeddingLeg(GeminiEmbeddings())
