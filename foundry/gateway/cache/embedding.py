"""The embedding of a question, through a route like any other: limited and metered on the caller's key.

What it does not know: what it is compared with (`neighbours.py`).
"""

from __future__ import annotations

import msgspec
import structlog

from foundry.codecs.openai import EMBEDDINGS
from foundry.errors import FoundryError
from foundry.gateway.exchange import Exchange
from foundry.gateway.inner import Inner

log = structlog.get_logger()

_OK = 200


class _Datum(msgspec.Struct):
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Datum]


_decoder = msgspec.json.Decoder(_Embeddings)
_encoder = msgspec.json.Encoder()


class Embedder:
    """Asks the embedding route; what goes wrong is a miss for the caller and a line in the log for us."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner

    async def __call__(self, exchange: Exchange, route: str, text: str) -> list[float] | None:
        """The vector, or None."""
        if exchange.key is None:
            return None
        body = _encoder.encode({"model": route, "input": text, "encoding_format": "float"})
        try:
            answer = await self._inner.ask(
                EMBEDDINGS,
                body,
                key_hash=exchange.key.key_hash,
                request_id=f"{exchange.request_id}-cache"[:128],
                within=exchange,
            )
            if answer.status == _OK:
                return _decoder.decode(answer.body).data[0].embedding
            reason = f"{route} answered {answer.status}"
        except (FoundryError, msgspec.DecodeError, IndexError) as error:
            reason = str(error) or type(error).__name__
        log.warning("cache_embedding_failed", request_id=exchange.request_id, reason=reason)
        return None
