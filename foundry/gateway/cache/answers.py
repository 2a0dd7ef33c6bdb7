"""The cache as the lifecycle calls it: look up before a target is asked, keep after the answer has gone out.

What it does not know: how answers are sent (`gateway/delivery.py`), where they lie (`kept.py`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

from foundry.codecs.base import JSON, Call, Codec
from foundry.gateway.cache.kept import Kept, KeptStore, MemoryStore
from foundry.gateway.cache.keys import CacheRule, exact_key, group_key, is_deterministic
from foundry.gateway.cache.neighbours import Neighbours, Vector, unit
from foundry.gateway.cache.question import Question, question_of
from foundry.gateway.cache.replay import REPLAYS
from foundry.gateway.delivery import Send
from foundry.gateway.exchange import Exchange

CacheState = Literal["hit", "semantic", "miss", "bypass"]
Embed = Callable[[Exchange, str, str], Awaitable[list[float] | None]]
"""The embedding of a text through a route, on the key of the exchange, metered; None when it cannot be had."""


class Looked:
    """One look-up: what was found, and what is needed to keep the answer if nothing was."""

    __slots__ = ("group", "keeps", "kept", "key", "rule", "vector")

    def __init__(self, rule: CacheRule, key: bytes, *, keeps: bool) -> None:
        self.rule = rule
        self.key = key
        self.keeps = keeps
        self.kept: Kept | None = None
        self.group = b""
        self.vector: Vector | None = None


class AnswerCache:
    """One per gateway replica. `shared`: None where no Valkey is configured; its routes then use the memory."""

    def __init__(
        self,
        memory: MemoryStore,
        shared: KeptStore | None,
        neighbours: Neighbours,
        *,
        max_answer_bytes: int,
        embed: Embed,
    ) -> None:
        self._memory = memory
        self._shared = shared
        self._neighbours = neighbours
        self._max_answer_bytes = max_answer_bytes
        self._embed = embed

    async def lookup(
        self, exchange: Exchange, codec: Codec, call: Call, rule: CacheRule, headers: dict[bytes, bytes]
    ) -> Looked | None:
        """None: this request is not for the cache. Sets `exchange.cache`. Raises nothing."""
        key, wishes = exchange.key, _wishes(headers)
        if key is None or "no-store" in wishes or not _cacheable(codec, call, rule):
            exchange.cache = "bypass"
            return None
        looked = Looked(rule, exact_key(rule, key, _form(codec, call), call.fields), keeps=True)
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

    async def keep(self, looked: Looked, exchange: Exchange, codec: Codec, recording: Recording) -> None:
        """Keep the answer that was sent, if it is whole and a success. Raises nothing."""
        attempt, body = exchange.attempt, recording.body()
        if not looked.keeps or attempt is None or exchange.outcome != "completed" or body is None:
            return
        replay = REPLAYS.get(codec.name)
        if recording.streamed and replay is not None:
            body = replay.whole(body, attempt.counts)
            if body is None:
                return
        kept = Kept(
            body=body,
            content_type=JSON if replay is not None else recording.content_type,
            streamed=recording.streamed and replay is None,
            target_id=attempt.upstream.target_id,
            counts=attempt.counts,
            kept_at_s=time.time(),
        )
        await self._store(looked.rule).put(looked.key, kept, looked.rule.policy.ttl_s)
        if looked.vector is not None:
            self._neighbours.add(looked.group, looked.vector, looked.key)

    def recording(self, send: Send) -> Recording:
        """Stands in for `send` and remembers what passes, within the bound of one answer."""
        return Recording(send, self._max_answer_bytes)

    async def aclose(self) -> None:
        """Close the stores."""
        await self._memory.aclose()
        if self._shared is not None:
            await self._shared.aclose()

    def _store(self, rule: CacheRule) -> KeptStore:
        return self._shared if rule.policy.backend == "valkey" and self._shared is not None else self._memory

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
        looked.group = _group(exchange, codec, call, looked.rule, question)
        nearest = self._neighbours.nearest(looked.group, looked.vector, semantic.threshold)
        if nearest is None:
            return
        kept = await store.get(nearest)
        if kept is None:
            self._neighbours.forget(looked.group, nearest)
        elif _fresh(kept, wishes):
            looked.kept, exchange.cache = kept, "semantic"


class Recording:
    """A `send` that remembers the answer that passes through it."""

    __slots__ = ("_max_bytes", "_parts", "_send", "_size", "_whole", "content_type", "streamed")

    def __init__(self, send: Send, max_bytes: int) -> None:
        self._send = send
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._whole = False
        self.content_type = JSON
        self.streamed = False

    # Any: the ASGI specification's own type
    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        """See the ASGI specification."""
        if message["type"] == "http.response.start":
            names = dict(message["headers"])
            self.content_type = names.get(b"content-type", b"").decode("latin-1")
            self.streamed = b"content-length" not in names
        else:
            body: bytes = message.get("body", b"")
            self._size += len(body)
            if self._size <= self._max_bytes:
                self._parts.append(body)
            else:
                self._parts.clear()
            self._whole = not message.get("more_body", False)
        await self._send(message)

    def body(self) -> bytes | None:
        """The whole answer; None when it did not end, or is larger than what is kept."""
        return b"".join(self._parts) if self._whole and self._size <= self._max_bytes else None


def _form(codec: Codec, call: Call) -> str:
    """Answers of a protocol whose streams and whole answers cannot be made of one another are kept apart by form."""
    if codec.name in REPLAYS or not call.stream:
        return codec.name
    return f"{codec.name}/stream/{call.wants_usage:d}{call.wants_running_usage:d}"


def _group(exchange: Exchange, codec: Codec, call: Call, rule: CacheRule, question: Question) -> bytes:
    assert exchange.key is not None  # noqa: S101  looked up after authorisation
    return group_key(rule, exchange.key, _form(codec, call), call.fields, question.member, question.rest)


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
