"""The cache as the lifecycle calls it: look up before a target is asked, keep after the answer has gone out.

What it does not know: where answers lie (`kept.py`), how a target is asked (`gateway/lifecycle.py`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import structlog

from foundry.codecs.base import JSON, SSE, Answer, Call, Codec
from foundry.codecs.replay import Replay
from foundry.gateway.cache.kept import Kept, KeptStore
from foundry.gateway.cache.keys import CacheRule, exact_key, group_key, is_deterministic
from foundry.gateway.cache.neighbours import Neighbours, Vector, unit
from foundry.gateway.cache.question import question_of
from foundry.gateway.cache.recording import Recording
from foundry.gateway.delivery import Delivery, Send
from foundry.gateway.exchange import Exchange
from foundry.gateway.snapshot import Index, Route

log = structlog.get_logger()

CacheState = Literal["hit", "semantic", "miss", "bypass"]
Embed = Callable[[Exchange, str, str], Awaitable[list[float] | None]]
"""The embedding of a text through a route, on the key of the exchange, metered; None when it cannot be had."""


class Looked:
    """One look-up: what was found, and what is needed to keep the answer if nothing was."""

    __slots__ = ("group", "kept", "key", "rule", "vector")

    def __init__(self, rule: CacheRule, key: bytes) -> None:
        self.rule = rule
        self.key = key
        self.kept: Kept | None = None
        self.group = b""
        self.vector: Vector | None = None


Forward = Callable[[Codec, Exchange, Call, Route, Send], Awaitable[None]]
"""The rest of the lifecycle: asks a target and sends its answer."""


class AnswerCache:
    """One per gateway replica. shared: None where no Valkey is configured; its routes then use the memory."""

    def __init__(
        self,
        delivery: Delivery,
        memory: KeptStore,
        shared: KeptStore | None,
        neighbours: Neighbours,
        *,
        max_answer_bytes: int,
        embed: Embed,
        replays: Mapping[str, Replay],
    ) -> None:
        self._delivery = delivery
        self._memory = memory
        self._shared = shared
        self._neighbours = neighbours
        self._max_answer_bytes = max_answer_bytes
        self._embed = embed
        self._replays = replays
        self._told = False

    def without_valkey(self, index: Index) -> int:
        """How many routes want their answers in a Valkey that is not configured."""
        if self._shared is not None:
            return 0
        caches = [route.cache for route in index.routes.values()]
        return sum(rule is not None and rule.policy.backend == "valkey" for rule in caches)

    async def serve(
        self,
        codec: Codec,
        exchange: Exchange,
        call: Call,
        route: Route,
        rule: CacheRule,
        headers: dict[bytes, bytes],
        send: Send,
        forward: Forward,
    ) -> None:
        """Answer from the cache, or let `forward` answer and keep that. Raises what `forward` raises."""
        looked = await self.lookup(exchange, codec, call, rule, headers)
        if looked is None:
            await forward(codec, exchange, call, route, send)
        elif looked.kept is not None:
            await self._answer(codec, exchange, call, route, looked, looked.kept, send)
        else:
            recording = Recording(send, self._max_answer_bytes)
            await forward(codec, exchange, call, route, recording)
            await self._keep(looked, exchange, codec, route, recording)

    async def lookup(
        self, exchange: Exchange, codec: Codec, call: Call, rule: CacheRule, headers: dict[bytes, bytes]
    ) -> Looked | None:
        """None: this request is not for the cache. Sets `exchange.cache`. Raises nothing."""
        key, wishes = exchange.key, _wishes(headers)
        if key is None or "no-store" in wishes or not _cacheable(codec, call, rule):
            exchange.cache = "bypass"
            return None
        looked = Looked(rule, exact_key(rule, key, self._form(codec, call), call.fields))
        if "no-cache" in wishes:
            exchange.cache = "bypass"
            return looked
        store = self._store(rule)
        kept = await store.get(looked.key)
        if kept is not None and _fresh(kept, wishes):
            looked.kept, exchange.cache = kept, "hit"
            return looked
        exchange.cache = "miss"
        if rule.policy.semantic is not None:
            await self._look_by_meaning(exchange, codec, call, looked, store, wishes)
        return looked

    async def _answer(
        self,
        codec: Codec,
        exchange: Exchange,
        call: Call,
        route: Route,
        looked: Looked,
        kept: Kept,
        send: Send,
    ) -> None:
        if looked.rule.policy.bill_hits == "full":
            self._bill(exchange, route, kept)
        replay = self._replays.get(codec.name)
        if kept.streamed:
            await self._delivery.replay(exchange, kept.body, kept.content_type, send)
        elif call.stream and replay is not None:
            events = b"".join(replay.stream(kept.body, call))
            await self._delivery.replay(exchange, events, codec.stream_type(SSE), send)
        else:
            answer = Answer(kept.body, kept.counts, content_type=kept.content_type)
            await self._delivery.answer(exchange, answer, send)

    def _bill(self, exchange: Exchange, route: Route, kept: Kept) -> None:
        """As if the target had answered again. It is still one of the route's: targets are part of the key."""
        for upstream in route.upstreams:
            if upstream.target_id == kept.target_id:
                attempt = exchange.begin(upstream)
                attempt.answered, attempt.outcome = True, "completed"
                attempt.count(kept.counts, "reported")
                return

    async def _keep(
        self, looked: Looked, exchange: Exchange, codec: Codec, route: Route, recording: Recording
    ) -> None:
        """Keep the answer that was sent, if it is whole, a success, and one target's of this route: not what a fallback route
        said, nor what was begun by one target and ended by another."""
        attempt, body = exchange.attempt, recording.body()
        if attempt is None or exchange.outcome != "completed" or body is None:
            return
        if attempt.upstream not in route.upstreams or attempt.counts != exchange.counts():
            return
        replay = self._replays.get(codec.name)
        if recording.streamed and replay is not None:
            body = replay.whole(body, attempt.counts)
            if body is None:
                return
        as_stream = recording.streamed and replay is None
        kept = Kept(
            body=body,
            content_type=recording.content_type if as_stream or not recording.streamed else JSON,
            streamed=as_stream,
            target_id=attempt.upstream.target_id,
            counts=attempt.counts,
            kept_at_s=time.time(),
        )
        await self._store(looked.rule).put(looked.key, kept, looked.rule.policy.ttl_s)
        if looked.vector is not None:
            self._neighbours.add(looked.group, looked.vector, looked.key)

    def _form(self, codec: Codec, call: Call) -> str:
        """Answers of a protocol whose streams and whole answers cannot be made of one another are kept apart by form."""
        if codec.name in self._replays or not call.stream:
            return codec.name
        return f"{codec.name}/stream/{call.wants_usage:d}{call.wants_running_usage:d}"

    async def aclose(self) -> None:
        """Close the stores."""
        await self._memory.aclose()
        if self._shared is not None:
            await self._shared.aclose()

    def _store(self, rule: CacheRule) -> KeptStore:
        if rule.policy.backend != "valkey":
            return self._memory
        if self._shared is not None:
            return self._shared
        if not self._told:
            self._told = True
            log.warning(
                "cache_valkey_not_configured",
                meaning="each replica keeps the answers of routes with backend 'valkey' in its own memory",
                next="set gateway.valkey_url (FOUNDRY_GATEWAY__VALKEY_URL), or the routes' backend to 'memory'",
            )
        return self._memory

    async def _look_by_meaning(
        self,
        exchange: Exchange,
        codec: Codec,
        call: Call,
        looked: Looked,
        store: KeptStore,
        wishes: dict[str, str],
    ) -> None:
        semantic, question = looked.rule.policy.semantic, question_of(call)
        if semantic is None or question is None or exchange.key is None:
            return
        values = await self._embed(exchange, semantic.embedding_route, question.text)
        looked.vector = unit(values) if values else None
        if looked.vector is None:
            return
        looked.group = group_key(
            looked.rule, exchange.key, self._form(codec, call), call.fields, question.member, question.rest
        )
        nearest = self._neighbours.nearest(looked.group, looked.vector, semantic.threshold)
        if nearest is None:
            return
        kept = await store.get(nearest)
        if kept is None:
            self._neighbours.forget(looked.group, nearest)
        elif _fresh(kept, wishes):
            looked.kept, exchange.cache = kept, "semantic"


def _cacheable(codec: Codec, call: Call, rule: CacheRule) -> bool:
    """JSON requests whose answer is not also kept somewhere under an id of its own."""
    if call.body:
        return False
    if codec.name == "responses" and (
        bytes(call.fields.get("store", b"true")) != b"false"
        or bytes(call.fields.get("background", b"false")) == b"true"
    ):
        return False
    return not rule.policy.only_deterministic or is_deterministic(call.fields)


def _wishes(headers: dict[bytes, bytes]) -> dict[str, str]:
    """The caller's `cache-control`."""
    raw = headers.get(b"cache-control")
    if not raw:
        return {}
    parts = (part.strip().lower().partition("=") for part in raw.decode("latin-1").split(","))
    return {name: value for name, _, value in parts}


def _fresh(kept: Kept, wishes: dict[str, str]) -> bool:
    age = wishes.get("max-age", "")
    return not age.isdigit() or time.time() - kept.kept_at_s <= int(age)
