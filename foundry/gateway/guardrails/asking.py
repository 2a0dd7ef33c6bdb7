"""Asks a route of task `moderate` or `classify` for a guard, on the caller's key, with a usage record of its own.

Vendors are asked at `/v1/moderations` (OpenAI's shape), own engines at `/classify` (vLLM's); the route's targets are tried in
order. The record has the request id of the request that was guarded and the protocol `moderations` or `classify`.
What it does not know: which guard asks and why.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from foundry.codecs.base import Answer, UpstreamRequest
from foundry.codecs.openai import told
from foundry.codecs.openai_stream import Usage
from foundry.errors import FoundryError, GuardrailUnavailable, UpstreamBroke
from foundry.gateway.delivery import OK, Delivery, count_answer
from foundry.gateway.exchange import Exchange
from foundry.gateway.refusals import refusal_from
from foundry.gateway.snapshot import Index
from foundry.gateway.transport import Transport
from foundry.gateway.upstream import Upstream
from foundry.types.deployment import Task

_TASKS = frozenset({Task.MODERATE, Task.CLASSIFY})
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
    usage: Usage | None = None


_scores = msgspec.json.Decoder(_Scores)


class RouteAsker:
    """Fulfils `AskRoute` for one request. Raises what the last target raised."""

    def __init__(self, index: Index, transport: Transport, delivery: Delivery, guarded: Exchange) -> None:
        self._index = index
        self._transport = transport
        self._delivery = delivery
        self._guarded = guarded

    async def __call__(self, route: str, texts: Sequence[str]) -> list[dict[str, float]]:
        """Per text: label to score."""
        known = self._index.routes.get(route)
        if known is None or known.entry.task not in _TASKS:
            raise GuardrailUnavailable(f"there is no route '{route}' of task moderate or classify")
        failure: FoundryError | None = None
        for upstream in known.upstreams:
            try:
                upstream.require_ready()
                return await self._ask(route, upstream, texts)
            except FoundryError as error:
                failure = error
        raise failure or GuardrailUnavailable(f"the route '{route}' has no target")

    async def _ask(self, route: str, upstream: Upstream, texts: Sequence[str]) -> list[dict[str, float]]:
        path, protocol = (
            ("/classify", "classify") if upstream.deployment else ("/v1/moderations", "moderations")
        )
        body = _encoder.encode({"model": upstream.model, "input": list(texts)})
        exchange = Exchange(protocol, self._guarded.request_id)
        exchange.key, exchange.route, exchange.user = self._guarded.key, route, self._guarded.user
        exchange.request_bytes = len(body)
        try:
            return await self._exchange(exchange, upstream, UpstreamRequest(path, body), len(texts))
        except FoundryError as error:
            exchange.fail(error)
            exchange.status = error.status
            raise
        finally:
            self._delivery.settle(exchange)

    async def _exchange(
        self, exchange: Exchange, upstream: Upstream, request: UpstreamRequest, count: int
    ) -> list[dict[str, float]]:
        attempt = exchange.begin(upstream)
        try:
            headers = upstream.headers(request, exchange.request_id)
            response = await self._transport.open(upstream.url(request.path), headers, request.body)
            try:
                attempt.first_byte_ns = time.perf_counter_ns()
                body = await self._transport.read(response)
                if response.status != OK:
                    raise refusal_from(response.status, response.headers, told(body), upstream.target_id)
            finally:
                response.close()
            attempt.answered = True
            scores, usage = read_scores(body)
            if len(scores) != count:
                raise UpstreamBroke(f"{upstream.target_id} judged {len(scores)} of {count} texts")
        except FoundryError as error:
            attempt.fail(error)
            raise
        count_answer(exchange, attempt, Answer(body, usage.counts() if usage else None))
        attempt.outcome = exchange.outcome = "completed"
        exchange.status, exchange.response_bytes = OK, len(body)
        return scores


def read_scores(body: bytes) -> tuple[list[dict[str, float]], Usage | None]:
    """Label to score for each text, from OpenAI's moderations or vLLM's classify. Raises UpstreamBroke."""
    try:
        read = _scores.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroke(f"the answer to a moderation cannot be read: {error}") from error
    if read.results is not None:
        return [result.category_scores for result in read.results], read.usage
    judged = sorted(read.data or [], key=lambda one: one.index)
    return [{one.label: one.score()} for one in judged], read.usage
