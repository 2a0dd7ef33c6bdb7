"""What a codec is: the seam between a wire protocol and the lifecycle.

What it does not know: any concrete protocol, I/O.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from foundry.errors import FoundryError
from foundry.types.deployment import Task
from foundry.types.usage import TokenCounts

BYTES_PER_TOKEN = 4
"""For upstreams that report no usage: OpenAI's rule of thumb for English text. Such records say
`estimated`."""


class Call(msgspec.Struct, frozen=True):
    """One parsed request: what the lifecycle must know, and the rest as untouched bytes."""

    model: str
    """Public model name: the route."""
    stream: bool
    fields: dict[str, msgspec.Raw]
    """The body's top-level members, values as the bytes that the caller sent."""
    wants_usage: bool = False
    """The caller asked for a usage chunk at the end of the stream."""
    wants_running_usage: bool = False
    """The caller asked for usage in every chunk."""


class Meter(Protocol):
    """Reads a stream as it passes: takes what arrives, gives what goes on to the caller, and counts."""

    started: bool
    """The first generated content has passed."""
    ended: bool
    """The upstream's end marker was seen: the stream is whole."""
    error: str | None
    """The upstream's words, if it reported an error inside the stream."""

    def feed(self, data: bytes) -> bytes:
        """Bytes from the upstream to bytes for the caller; keeps back incomplete events and the end
        marker."""
        ...

    def counts(self) -> TokenCounts | None:
        """The latest counts the upstream told, or None."""
        ...

    def estimated_output_tokens(self) -> int:
        """What passed, counted by us, for an upstream that tells nothing."""
        ...


class Codec(Protocol):
    """One wire protocol."""

    @property
    def name(self) -> str:
        """Value of `UsageRecord.protocol`."""
        ...

    @property
    def path(self) -> str:
        """Public path; the same path under a target's base URL."""
        ...

    @property
    def task(self) -> Task:
        """What a route must compute to be called through this protocol."""
        ...

    @property
    def end_marker(self) -> bytes:
        """What ends a whole stream on the wire."""
        ...

    def parse(self, body: bytes) -> Call:
        """Body to call. Raises MalformedBody or InvalidParameter."""
        ...

    def upstream_body(self, call: Call, model: str, *, running_usage: bool) -> bytes:
        """The body to send on: model renamed, usage asked for; all else as it came.

        running_usage: the target can report usage in every chunk (vLLM can), which makes aborted streams
        exact.
        """
        ...

    def counts(self, body: bytes) -> TokenCounts | None:
        """Usage in a whole (not streamed) answer, or None when the upstream told nothing."""
        ...

    def estimated_output_tokens(self, body: bytes) -> int:
        """Output tokens of a whole answer, counted by us, for an upstream that tells nothing."""
        ...

    def meter(self, call: Call) -> Meter:
        """A fresh meter for one streamed answer."""
        ...

    def error_body(self, error: FoundryError, request_id: str) -> bytes:
        """An error in this protocol's shape."""
        ...

    def error_event(self, error: FoundryError, request_id: str) -> bytes:
        """The same as the terminal event of a stream."""
        ...
