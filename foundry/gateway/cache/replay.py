"""What the cache asks of a protocol to answer streams from whole answers and the other way round.

What it does not know: any protocol; the registry `foundry.codecs.replay.REPLAYS` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from foundry.codecs.base import Call
from foundry.types.usage import UsageCounts


class Replay(Protocol):
    """One protocol's two forms of an answer."""

    def whole(self, stream: bytes, counts: UsageCounts | None) -> bytes | None:
        """A stream as it was sent, as the whole answer; None when it cannot be made one."""
        ...

    def stream(self, whole: bytes, call: Call) -> Sequence[bytes]:
        """A whole answer as the events that this caller would have been sent, the end marker last."""
        ...
