"""Answers as streams and streams as answers, for a cache that keeps one form and is asked for the other.

`REPLAYS` has one per protocol that streams, by codec name. They work on the protocol's own JSON, so members that only some
targets send survive. What it does not know: caches, targets, I/O.
"""

from __future__ import annotations

from typing import Protocol

from foundry.codecs.base import Call
from foundry.codecs.replay_chat import ChatReplay, CompletionsReplay
from foundry.codecs.replay_messages import MessagesReplay
from foundry.codecs.replay_responses import ResponsesReplay
from foundry.types.usage import UsageCounts


class Replay(Protocol):
    """One protocol's two forms of an answer."""

    def whole(self, stream: bytes, counts: UsageCounts | None) -> bytes | None:
        """A stream as it was sent, end marker included, as the whole answer; `counts` stand in for usage that the stream did
        not tell. None when the stream is not whole, ended in an error or cannot be read."""
        ...

    def stream(self, whole: bytes, call: Call) -> list[bytes]:
        """A whole answer as the events that this caller would have been sent, the end marker last. Raises InvalidParameter
        never: an answer that cannot be taken apart goes out as one event."""
        ...


REPLAYS: dict[str, Replay] = {
    "chat": ChatReplay(),
    "completions": CompletionsReplay(),
    "messages": MessagesReplay(),
    "responses": ResponsesReplay(),
}
"""By codec name."""
