"""The cache of a replica, made of its settings. What it does not know: requests."""

from __future__ import annotations

from foundry.gateway.cache.answers import AnswerCache
from foundry.gateway.cache.embedding import Embedder
from foundry.gateway.cache.kept import MemoryStore, ValkeyStore
from foundry.gateway.cache.neighbours import Neighbours
from foundry.gateway.delivery import Delivery
from foundry.gateway.inner import Inner
from foundry.settings import GatewaySettings


def answer_cache(gateway: GatewaySettings, delivery: Delivery, inner: Inner) -> AnswerCache:
    """A cache with nothing in its memory."""
    return AnswerCache(
        delivery,
        MemoryStore(gateway.cache_memory_bytes),
        ValkeyStore(gateway.valkey_url) if gateway.valkey_url else None,
        Neighbours(gateway.cache_vector_bytes),
        max_answer_bytes=gateway.cache_max_answer_bytes,
        embed=Embedder(inner),
        replays={},
    )
