"""AWS Bedrock as a target of embeddings: InvokeModel of Titan and Cohere models, each with its own JSON.

Titan takes one text a call and tells its tokens; Cohere takes many and tells none in the body. What it does not know: OpenAI's
shapes (`vendor_embeddings.py`), signatures, I/O.
"""

from __future__ import annotations

import msgspec

from foundry.codecs.base import TargetFacts, Told, UpstreamRequest
from foundry.codecs.bedrock import model_path
from foundry.codecs.bedrock_answers import told
from foundry.codecs.translate import unsupported
from foundry.codecs.vendor_embeddings import EmbeddingLeg, Made, Wanted
from foundry.errors import UpstreamBroke

_encoder = msgspec.json.Encoder()


class _Titan(msgspec.Struct, rename="camel"):
    embedding: list[float]
    input_text_token_count: int | None = None


class _ByType(msgspec.Struct):
    floats: list[list[float]] = msgspec.field(name="float")


class _Cohere(msgspec.Struct):
    embeddings: list[list[float]] | _ByType


_titan = msgspec.json.Decoder(_Titan)
_cohere = msgspec.json.Decoder(_Cohere)


class BedrockEmbeddings:
    """The model's name says whose JSON it speaks."""

    def write(self, wanted: Wanted, target: TargetFacts) -> UpstreamRequest:
        """The request. Raises UnsupportedParameter."""
        write = _to_cohere if "cohere." in target.model else _to_titan
        return UpstreamRequest(path=model_path(target, "invoke"), body=_encoder.encode(write(wanted, target)))

    def read(self, body: bytes) -> Made:
        """The vectors. Raises UpstreamBroke."""
        try:
            if b'"embeddings"' not in body[:4096] and b'"embedding"' in body:
                titan = _titan.decode(body)
                return Made([titan.embedding], titan.input_text_token_count)
            found = _cohere.decode(body).embeddings
        except (msgspec.DecodeError, RecursionError) as error:
            raise UpstreamBroke(f"Bedrock's embeddings cannot be read: {error}") from error
        return Made(found if isinstance(found, list) else found.floats, None)

    def told(self, body: bytes) -> Told:
        """An error's words."""
        return told(body)


BEDROCK_EMBEDDINGS = EmbeddingLeg(BedrockEmbeddings())


def _to_titan(wanted: Wanted, target: TargetFacts) -> dict[str, object]:
    if len(wanted.texts) != 1:
        raise unsupported("input", target, f"it embeds one text a request, not {len(wanted.texts)}")
    if wanted.kind is not None:
        raise unsupported("input_type", target)
    sized = {} if wanted.dimensions is None else {"dimensions": wanted.dimensions}
    return {"inputText": wanted.texts[0], **sized}


def _to_cohere(wanted: Wanted, target: TargetFacts) -> dict[str, object]:
    del target
    sized = {} if wanted.dimensions is None else {"output_dimension": wanted.dimensions}
    kind = wanted.kind or "search_document"
    return {"texts": wanted.texts, "input_type": kind, "embedding_types": ["float"], **sized}
