"""Embeddings by targets that do not speak OpenAI's protocol: OpenAI's request in, OpenAI's answer out.

A `Maker` writes one vendor's request and reads its vectors; `EmbeddingLeg` does the rest. What it does not know: any vendor
(`gemini_embeddings.py`, `bedrock_embeddings.py`), I/O.
"""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from foundry.codecs.base import Answer, Call, Meter, TargetFacts, Told, UpstreamRequest
from foundry.codecs.fields import member
from foundry.codecs.translate import unsupported
from foundry.errors import InvalidParameter, ProtocolNotServed
from foundry.types.usage import UsageCounts

_KNOWN = frozenset(
    {"model", "input", "dimensions", "encoding_format", "user", "input_type", "task_type", "stream"}
)
_input = msgspec.json.Decoder(str | list[str | int | list[int]] | None)
_number = msgspec.json.Decoder(int | None)
_format = msgspec.json.Decoder(Literal["float", "base64"] | None)
_string = msgspec.json.Decoder(str | None)
_encoder = msgspec.json.Encoder()


class Wanted(msgspec.Struct, frozen=True):
    """What a caller wants embedded."""

    texts: tuple[str, ...]
    dimensions: int | None
    kind: str | None
    """What the texts are for, in the target's words (`input_type`, `task_type`); None: its default."""


class Made(msgspec.Struct, frozen=True):
    """What a target answered; input_tokens: None when it does not tell."""

    vectors: Sequence[Sequence[float]]
    input_tokens: int | None


class Maker(Protocol):
    """One vendor's way to embed."""

    def write(self, wanted: Wanted, target: TargetFacts) -> UpstreamRequest:
        """The request. Raises UnsupportedParameter."""
        ...

    def read(self, body: bytes) -> Made:
        """The vectors, in order. Raises UpstreamBroke."""
        ...

    def told(self, body: bytes) -> Told:
        """An error's words."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingLeg:
    """The leg from OpenAI's embeddings to one maker."""

    maker: Maker

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The target's request. Raises InvalidParameter or UnsupportedParameter."""
        return self.maker.write(_wanted(call, target), target)

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """OpenAI's list of embeddings. Raises UpstreamBroke."""
        del content_type
        made = self.maker.read(body)
        packed = member(call.fields, "encoding_format", _format, "'float' or 'base64'") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
            for index, vector in enumerate(made.vectors)
        ]
        tokens = made.input_tokens or 0
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        counts = None if made.input_tokens is None else UsageCounts(input_tokens=tokens)
        written = {"object": "list", "data": data, "model": call.model, "usage": usage}
        return Answer(body=_encoder.encode(written), counts=counts)

    def streams(self, content_type: str) -> bool:
        """Never."""
        del content_type
        return False

    def meter(self, call: Call) -> Meter:
        """Embeddings do not stream. Raises ProtocolNotServed."""
        raise ProtocolNotServed(
            f"embeddings of '{call.model}' cannot be streamed: leave 'stream' out", param="stream"
        )

    def told(self, body: bytes) -> Told:
        """The target's words."""
        return self.maker.told(body)


def _wanted(call: Call, target: TargetFacts) -> Wanted:
    fields = call.fields
    for name in fields:
        if name not in _KNOWN:
            raise unsupported(name, target)
    member(fields, "encoding_format", _format, "'float' or 'base64'")
    given = member(fields, "input", _input, "a text or a list of texts")
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise InvalidParameter("'input' must hold at least one text", param="input")
    strings = tuple(text for text in texts if isinstance(text, str))
    if len(strings) != len(texts):
        raise unsupported("input", target, "it embeds texts, not token ids")
    kind = member(fields, "input_type", _string, "a string") or member(
        fields, "task_type", _string, "a string"
    )
    return Wanted(strings, member(fields, "dimensions", _number, "a whole number"), kind)


def _packed(vector: Sequence[float]) -> str:
    """Little-endian float32 in base64, as OpenAI packs them."""
    return b64encode(array("f", vector).tobytes()).decode()
