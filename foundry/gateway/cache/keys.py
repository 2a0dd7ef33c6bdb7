"""Under which name an answer is kept: a hash over tenant, route, protocol and the request as far as it changes the answer.

Values are hashed as the bytes that the caller sent; only the order of the top-level members does not count. What it does not
know: where answers are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from foundry.types.cache import CachePolicy
from foundry.types.snapshot import KeyEntry, RouteEntry

NOT_IN_THE_ANSWER = frozenset(
    {
        "metadata",
        "model",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "stream",
        "stream_options",
        "user",
    }
)
"""Members that do not change what is answered. The model is in the rule: it is the route."""


class CacheRule:
    """A route's policy, with what of the key depends only on the snapshot."""

    __slots__ = ("policy", "prefix")

    def __init__(self, policy: CachePolicy, entry: RouteEntry) -> None:
        self.policy = policy
        targets = [f"{target.target_id}={target.model}" for target in entry.targets]
        self.prefix = b"\0".join(
            text.encode() for text in (entry.name, *targets, "guards", *entry.guardrails)
        )

    @classmethod
    def of(cls, entry: RouteEntry) -> CacheRule | None:
        """None for a route without a cache."""
        return cls(entry.cache, entry) if entry.cache is not None else None


def exact_key(rule: CacheRule, key: KeyEntry, protocol: str, fields: dict[str, msgspec.Raw]) -> bytes:
    """32 bytes. Keys of one project share answers unless other guards hold for them."""
    return _digest(
        rule,
        key,
        protocol,
        ((name, fields[name]) for name in sorted(fields) if name not in NOT_IN_THE_ANSWER),
    )


def group_key(
    rule: CacheRule,
    key: KeyEntry,
    protocol: str,
    fields: dict[str, msgspec.Raw],
    asked: str,
    rest: Iterable[msgspec.Raw],
) -> bytes:
    """32 bytes: all of the request but the text that is compared by meaning. `asked` is the member that it stands in, `rest`
    what else that member holds."""
    others = [
        (name, fields[name]) for name in sorted(fields) if name != asked and name not in NOT_IN_THE_ANSWER
    ]
    return _digest(rule, key, protocol, [*others, *((asked, part) for part in rest)])


def _digest(
    rule: CacheRule, key: KeyEntry, protocol: str, members: Iterable[tuple[str, msgspec.Raw]]
) -> bytes:
    digest = sha256(f"{key.project_id}\0{protocol}\0{','.join(key.guardrails)}\0".encode())
    digest.update(rule.prefix)
    for name, value in members:
        data = bytes(value)
        digest.update(b"\0%d:%s\0%d:" % (len(name), name.encode(), len(data)))
        digest.update(data)
    return digest.digest()


def is_deterministic(fields: dict[str, msgspec.Raw]) -> bool:
    """Whether the caller asked for the same answer each time: temperature 0, or a seed."""
    seed, temperature = fields.get("seed"), fields.get("temperature")
    if seed is not None and bytes(seed) != b"null":
        return True
    try:
        return temperature is not None and float(bytes(temperature)) == 0.0
    except ValueError:
        return False
