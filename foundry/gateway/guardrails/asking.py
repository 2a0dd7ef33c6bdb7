"""Asks a route of task `moderate` or `classify` for a guard: a request of its own through the whole lifecycle, on the caller's key.

Own engines are asked by vLLM's `classify`, vendors by OpenAI's moderations. The record has the request id of the request that
is guarded. What it does not know: which guard asks and why.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from foundry.codecs import CODECS
from foundry.codecs.base import Codec
from foundry.errors import GuardrailUnavailable
from foundry.gateway.exchange import Exchange
from foundry.gateway.inner import Inner
from foundry.gateway.snapshot import Index, Route
from foundry.types.deployment import Task

_OK = 200
_TASKS = frozenset({Task.MODERATE, Task.CLASSIFY})
_MODERATIONS, _CLASSIFY = CODECS["/v1/moderations"], CODECS["/classify"]
_encoder = msgspec.json.Encoder()


class _Result(msgspec.Struct):
    category_scores: dict[str, float]


class _Class(msgspec.Struct):
    label: str
    probs: list[float]
    index: int = 0

    def score(self) -> float:
        return max(self.probs, default=0.0)


class _Scores(msgspec.Struct):
    results: list[_Result] | None = None
    data: list[_Class] | None = None


_scores = msgspec.json.Decoder(_Scores)


class RouteAsker:
    """Fulfils `AskRoute` for one request."""

    def __init__(self, index: Index, inner: Inner, guarded: Exchange) -> None:
        self._index = index
        self._inner = inner
        self._guarded = guarded

    async def __call__(self, route: str, texts: Sequence[str]) -> list[dict[str, float]]:
        """Per text: label to score. Raises GuardrailUnavailable."""
        known, key = self._index.routes.get(route), self._guarded.key
        if known is None or key is None or known.entry.task not in _TASKS:
            raise GuardrailUnavailable(f"there is no route '{route}' of task moderate or classify")
        answer = await self._inner.ask(
            _codec(known),
            _encoder.encode({"model": route, "input": list(texts)}),
            key_hash=key.key_hash,
            request_id=self._guarded.request_id,
            for_guard=True,
            within=self._guarded,
        )
        if answer.status != _OK:
            raise GuardrailUnavailable(f"the route '{route}' answered {answer.status}")
        scores = read_scores(answer.body)
        if len(scores) != len(texts):
            raise GuardrailUnavailable(f"the route '{route}' judged {len(scores)} of {len(texts)} texts")
        return scores


def read_scores(body: bytes) -> list[dict[str, float]]:
    """Label to score for each text, from OpenAI's moderations or vLLM's classify. Raises GuardrailUnavailable."""
    try:
        read = _scores.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GuardrailUnavailable(f"the answer to a moderation cannot be read: {error}") from error
    if read.results is not None:
        return [result.category_scores for result in read.results]
    return [{one.label: one.score()} for one in sorted(read.data or [], key=lambda one: one.index)]


def _codec(route: Route) -> Codec:
    own = bool(route.upstreams[0].deployment)
    return _MODERATIONS if route.entry.task is Task.MODERATE and not own else _CLASSIFY
