"""The parts of the cache: bounds, eviction, keys that cannot be confused, nearest neighbours."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest

from foundry.codecs.base import Call
from foundry.gateway.cache.kept import Kept, MemoryStore, ValkeyStore
from foundry.gateway.cache.keys import is_deterministic
from foundry.gateway.cache.neighbours import Neighbours, unit
from foundry.gateway.cache.question import question_of
from foundry.types.usage import UsageCounts


def _kept(size: int) -> Kept:
    return Kept(b"x" * size, "application/json", False, "t", UsageCounts(), time.time())


async def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    store = MemoryStore(10_000)
    for name in (b"a", b"b", b"c"):
        await store.put(name, _kept(2500), 60)
    assert await store.get(b"a") is not None
    await store.put(b"d", _kept(2500), 60)
    assert await store.get(b"b") is None
    assert await store.get(b"a") is not None
    await store.put(b"e", _kept(20_000), 60)
    assert await store.get(b"e") is None
    assert store.used_bytes <= 10_000
    await store.put(b"a", _kept(10), 0)
    assert await store.get(b"a") is None
    assert len(store) == 2
    await store.aclose()
    assert store.used_bytes == 0


async def test_valkey_that_is_away_is_a_miss_at_once_after_the_first() -> None:
    store = ValkeyStore("valkey://127.0.0.1:9/0")
    assert await store.get(b"a") is None
    started = time.perf_counter()
    for _ in range(1000):
        assert await store.get(b"a") is None
        await store.put(b"a", _kept(1), 60)
    assert time.perf_counter() - started < 0.2  # a thousand refused connections would take longer
    await store.aclose()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, False), ({"temperature": 0}, True), ({"temperature": 0.1}, False), ({"seed": 1}, True), ({"seed": None}, False),
     ({"temperature": None}, False)],
)  # fmt: skip
def test_deterministic(fields: dict[str, object], expected: bool) -> None:
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    assert is_deterministic(raw) is expected


def _call(**fields: object) -> Call:
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    return Call(model="m", stream=False, fields=raw)


@pytest.mark.parametrize(
    ("fields", "text", "rest"),
    [
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]}, "q", 1),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]}, "q", 0),
        ({"input": "q"}, "q", 0),
        ({"prompt": "q"}, "q", 0),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, None, 0),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            None,
            0,
        ),
        ({"messages": 5}, None, 0),
        ({"messages": []}, None, 0),
        ({}, None, 0),
    ],
)
def test_the_question(fields: dict[str, object], text: str | None, rest: int) -> None:
    question = question_of(_call(**fields))
    assert (question.text if question else None) == text
    if question is not None:
        assert len(question.rest) == rest


def test_neighbours_are_found_by_cosine_within_their_group_and_bounded() -> None:
    neighbours = Neighbours(max_bytes=200_000)
    random = np.random.default_rng(7)
    vectors = [unit(list(random.normal(size=16))) for _ in range(1200)]
    for number, vector in enumerate(vectors):
        assert vector is not None
        neighbours.add(b"g", vector, b"%d" % number)
    last = vectors[-1]
    assert last is not None
    assert neighbours.nearest(b"g", last, 0.99) == b"1199"
    assert neighbours.nearest(b"other", last, 0.0) is None
    first = vectors[0]
    assert first is not None
    assert neighbours.nearest(b"g", first, 0.999) is None  # the oldest gave way
    neighbours.forget(b"g", b"1199")
    assert neighbours.nearest(b"g", last, 0.99) is None
    for group in range(100):
        neighbours.add(b"g%d" % group, np.ones(1000, dtype=np.float32), b"k")
    assert neighbours.used_bytes <= 200_000


@pytest.mark.parametrize("values", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_a_vector_without_direction_is_none(values: list[float]) -> None:
    assert unit(values) is None
