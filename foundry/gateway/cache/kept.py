"""An answer as it is kept, and where: in this replica's memory, or in a Valkey that all replicas share.

What it does not know: what is looked up when (`answers.py`).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Protocol

import msgspec
import structlog
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from foundry.types.usage import UsageCounts

log = structlog.get_logger()

_ENTRY_OVERHEAD_BYTES = 700
"""Of one entry in memory beside its body: measured with `sys.getsizeof` over key, structs and the ordered dict's node."""
_VALKEY_TIMEOUT_S = 0.25
_VALKEY_REST_S = 5.0
"""After a failure Valkey is left alone this long: its callers do not each wait for its timeout."""
_VALKEY_PREFIX = b"foundry:answer:"


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """One complete, successful answer in its protocol."""

    body: bytes
    content_type: str
    streamed: bool
    """The body is a stream's events, its end marker included."""
    target_id: str
    """Who gave it."""
    counts: UsageCounts
    """What it cost then; billed again by `bill_hits = "full"`."""
    kept_at_s: float
    """Unix seconds."""


class KeptStore(Protocol):
    """Where answers are kept. Nothing here raises: what cannot be read is a miss."""

    async def get(self, key: bytes) -> Kept | None:
        """The answer under this key, unless it is gone or over its time."""
        ...

    async def put(self, key: bytes, kept: Kept, ttl_s: float) -> None:
        """Keep an answer."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


class MemoryStore:
    """This replica's memory: least recently used answers go first when `max_bytes` are full."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, tuple[float, Kept]] = OrderedDict()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: bytes) -> Kept | None:
        """See KeptStore."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= time.monotonic():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[1]

    async def put(self, key: bytes, kept: Kept, ttl_s: float) -> None:
        """See KeptStore."""
        size = _size(kept)
        if size > self._max_bytes:
            return
        if key in self._entries:
            self._drop(key)
        self._entries[key] = (time.monotonic() + ttl_s, kept)
        self.used_bytes += size
        while self.used_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def aclose(self) -> None:
        """See KeptStore."""
        self._entries.clear()
        self.used_bytes = 0

    def _drop(self, key: bytes) -> None:
        _, kept = self._entries.pop(key)
        self.used_bytes -= _size(kept)


class ValkeyStore:
    """A Valkey (or Redis) server. When it is away every look-up is a miss; that is logged once until it is back."""

    def __init__(self, url: str) -> None:
        self._client = Valkey.from_url(
            url, socket_timeout=_VALKEY_TIMEOUT_S, socket_connect_timeout=_VALKEY_TIMEOUT_S
        )
        self._decoder = msgspec.msgpack.Decoder(Kept)
        self._encoder = msgspec.msgpack.Encoder()
        self._rests_until_s = 0.0
        self._away = False

    async def get(self, key: bytes) -> Kept | None:
        """See KeptStore."""
        if time.monotonic() < self._rests_until_s:
            return None
        try:
            data: object = await self._client.get(_VALKEY_PREFIX + key.hex().encode())
            self._note_back()
            return self._decoder.decode(data) if isinstance(data, bytes) else None
        except (ValkeyError, OSError, TimeoutError) as error:
            self._note_away(error)
        except msgspec.DecodeError:
            return None  # another version's shape: a miss, and overwritten by the next answer
        return None

    async def put(self, key: bytes, kept: Kept, ttl_s: float) -> None:
        """See KeptStore."""
        if time.monotonic() < self._rests_until_s:
            return
        try:
            data = self._encoder.encode(kept)
            await self._client.set(_VALKEY_PREFIX + key.hex().encode(), data, px=max(1, int(ttl_s * 1000)))
            self._note_back()
        except (ValkeyError, OSError, TimeoutError) as error:
            self._note_away(error)

    async def aclose(self) -> None:
        """See KeptStore."""
        await self._client.aclose()

    def _note_away(self, error: Exception) -> None:
        self._rests_until_s = time.monotonic() + _VALKEY_REST_S
        if not self._away:
            log.warning("cache_valkey_away", reason=str(error) or type(error).__name__)
        self._away = True

    def _note_back(self) -> None:
        if self._away:
            log.info("cache_valkey_back")
        self._away = False


def _size(kept: Kept) -> int:
    return len(kept.body) + _ENTRY_OVERHEAD_BYTES
