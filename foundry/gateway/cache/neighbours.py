"""Which kept question is nearest in meaning: unit vectors in bounded groups, searched whole.

A group is what may be compared: one project, route and all else of the request. Vectors are this replica's own; the answers lie
in the route's backend. What it does not know: where vectors come from.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

_GROUP_VECTORS = 1000
"""Most questions of one group; the oldest gives way. A search of 1,000 x 384 takes about 0.1 ms."""
_FIRST_VECTORS = 8


def unit(values: list[float]) -> Vector | None:
    """A vector of length one; None for one without direction."""
    vector = np.asarray(values, dtype=np.float32)
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if np.isfinite(length) and length > 0 else None


class _Group:
    """Vectors and the keys of their answers, in a ring."""

    __slots__ = ("_matrix", "_next", "keys")

    def __init__(self, dimensions: int) -> None:
        self._matrix: Vector = np.zeros((_FIRST_VECTORS, dimensions), dtype=np.float32)
        self._next = 0
        self.keys: list[bytes] = []

    @property
    def dimensions(self) -> int:
        return int(self._matrix.shape[1])

    @property
    def used_bytes(self) -> int:
        return self._matrix.nbytes

    def nearest(self, vector: Vector) -> tuple[float, bytes] | None:
        if not self.keys:
            return None
        similarities = self._matrix[: len(self.keys)] @ vector
        best = int(np.argmax(similarities))
        return float(similarities[best]), self.keys[best]

    def add(self, vector: Vector, key: bytes) -> None:
        if len(self.keys) < _GROUP_VECTORS:
            if len(self.keys) == len(self._matrix):
                self._matrix = np.concatenate([self._matrix, np.zeros_like(self._matrix)])[:_GROUP_VECTORS]
            self._matrix[len(self.keys)] = vector
            self.keys.append(key)
            return
        self._matrix[self._next], self.keys[self._next] = vector, key
        self._next = (self._next + 1) % _GROUP_VECTORS

    def forget(self, key: bytes) -> None:
        for position, kept in enumerate(self.keys):
            if kept == key:
                self._matrix[position] = 0


class Neighbours:
    """All groups; the least recently asked go first when `max_bytes` are full."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._groups: OrderedDict[bytes, _Group] = OrderedDict()

    @property
    def used_bytes(self) -> int:
        """Of all vectors."""
        return sum(group.used_bytes for group in self._groups.values())

    def nearest(self, group_key: bytes, vector: Vector, threshold: float) -> bytes | None:
        """The key of the nearest kept question's answer, if its cosine similarity is `threshold` or more."""
        group = self._groups.get(group_key)
        if group is None or group.dimensions != len(vector):
            return None
        self._groups.move_to_end(group_key)
        found = group.nearest(vector)
        return found[1] if found is not None and found[0] >= threshold else None

    def add(self, group_key: bytes, vector: Vector, key: bytes) -> None:
        """Remember a question."""
        group = self._groups.get(group_key)
        if group is None or group.dimensions != len(vector):
            group = self._groups[group_key] = _Group(len(vector))
        self._groups.move_to_end(group_key)
        group.add(vector, key)
        while self.used_bytes > self._max_bytes and self._groups:
            self._groups.popitem(last=False)

    def forget(self, group_key: bytes, key: bytes) -> None:
        """Its answer is gone."""
        group = self._groups.get(group_key)
        if group is not None:
            group.forget(key)
