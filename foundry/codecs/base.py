"""The seams between wire protocols and the lifecycle.

A *codec* is a protocol as callers speak it. A *wire* is a protocol as a target speaks it ("openai", "anthropic", "gemini",
...). A *leg* joins the two for one request: it writes the target's request and reads the target's answer for the caller;
the registry `LEGS` in `codecs/__init__.py` holds one per pair. Everything here is pure: bytes in, bytes out.
What it does not know: any concrete protocol, I/O.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from foundry.errors import FoundryError
from foundry.types.deployment import Task
from foundry.types.usage import UsageCounts

BYTES_PER_TOKEN = 4
"""For upstreams that report no usage: OpenAI's rule of thumb for English text. Such records say
`estimated`."""
JSON = "application/json"
SSE = "text/event-stream"


class Call(msgspec.Struct, frozen=True):
    """One parsed request: what the lifecycle must know, and the rest as untouched bytes."""

    model: str
    """Public model name: the route."""
    stream: bool
    """The answer passes on as it arrives."""
    fields: dict[str, msgspec.Raw]
    """The body's top-level members, values as the bytes that the caller sent. Of a multipart body: its plain form fields,
    each as a JSON string; the files are in `body`."""
    wants_usage: bool = False
    """The caller asked for a usage chunk at the end of the stream."""
    wants_running_usage: bool = False
    """The caller asked for usage in every chunk."""
    max_output_tokens: int | None = None
    """The caller's own bound on the answer, all n choices together; what limits and budgets reserve."""
    estimated: UsageCounts | None = None
    """Our own count of what the target will charge for (seconds of sound, characters, images): for limits to reserve, and for
    targets that tell nothing. None: input tokens by the body's bytes."""
    user: str = ""
    """The end user that the caller names (`user`, `safety_identifier`, Anthropic's `metadata.user_id`)."""
    body: bytes = b""
    """The body as it came, for protocols whose body is not JSON."""
    content_type: str = JSON
    """Of `body`, with its parameters (a multipart boundary)."""
    answer_id: str = ""
    """The id that the answer must carry because it was given out before (a background response); empty: the leg's choice."""


class TargetFacts(msgspec.Struct, frozen=True):
    """What a leg must know of the target it writes for."""

    target_id: str
    """For errors: "openai/gpt-4o-mini"."""
    model: str
    """The target's name of the model."""
    running_usage: bool = False
    """It reports usage in every chunk when asked (vLLM and SGLang do), which makes aborted streams exact."""
    options: dict[str, str] = {}
    """Facts of the provider row that change what is written (e.g. Azure's `api_version`, `max_tokens_field`)."""


class UpstreamRequest(msgspec.Struct, frozen=True):
    """What to send: below the target's base URL, without authentication."""

    path: str
    """With its leading slash and query, e.g. "/v1/chat/completions"."""
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = {}
    """Further headers of the protocol (e.g. `anthropic-version`)."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer, ready for the caller."""

    body: bytes
    counts: UsageCounts | None
    """None: the target told nothing."""
    estimated_output_tokens: int = 0
    """Counted by us; used when `counts` is None."""
    content_type: str = JSON


class Told(msgspec.Struct, frozen=True):
    """A target's error answer in its own words."""

    message: str
    param: str | None = None


class Meter(Protocol):
    """Reads a stream as it passes: takes what arrives, gives what goes on to the caller, and counts."""

    started: bool
    """The first generated content has passed."""
    ended: bool
    """The upstream's end marker was seen: the stream is whole."""
    error: str | None
    """The upstream's words, if it reported an error inside the stream."""

    def feed(self, data: bytes) -> bytes:
        """Bytes from the upstream to bytes for the caller; keeps back incomplete events and the tail."""
        ...

    def close(self) -> bytes:
        """The upstream closed its answer: what is still to say. Sets `ended` for protocols that end by closing."""
        ...

    def tail(self) -> bytes:
        """What ends a whole stream on the caller's wire: sent last, after the usage record is written."""
        ...

    def failure(self, error: FoundryError, request_id: str) -> bytes | None:
        """What ends a stream that broke off, in place of `tail`; it can depend on what has passed (sequence numbers). None: the
        codec's `error_event` will do."""
        ...

    @property
    def estimates(self) -> bool:
        """Part of `counts` was counted by us, because the upstream has not told it."""
        ...

    def counts(self) -> UsageCounts | None:
        """The latest counts the upstream told, or None."""
        ...

    def estimated_output_tokens(self) -> int:
        """What passed, counted by us, for an upstream that tells nothing."""
        ...


class Leg(Protocol):
    """One caller's protocol over one target's wire."""

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The target's request. Raises UnsupportedParameter naming the parameter and the target, InvalidParameter."""
        ...

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """A whole answer for the caller. Raises UpstreamBroke when it cannot be read at all."""
        ...

    def streams(self, content_type: str) -> bool:
        """Whether an answer of this type is a stream to be metered (else it is read whole)."""
        ...

    def meter(self, call: Call) -> Meter:
        """A fresh meter for one streamed answer."""
        ...

    def told(self, body: bytes) -> Told:
        """An error answer's words, whatever its shape."""
        ...


class Codec(Protocol):
    """One wire protocol as callers speak it."""

    @property
    def name(self) -> str:
        """Value of `UsageRecord.protocol`."""
        ...

    @property
    def path(self) -> str:
        """Public path."""
        ...

    @property
    def tasks(self) -> frozenset[Task]:
        """What a route must compute to be called through this protocol: one of these."""
        ...

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody, UnsupportedMedia or InvalidParameter."""
        ...

    def stream_type(self, upstream_type: str) -> str:
        """Content type of a streamed answer, given the upstream's."""
        ...

    def error_body(self, error: FoundryError, request_id: str) -> bytes:
        """An error in this protocol's shape."""
        ...

    def error_event(self, error: FoundryError, request_id: str) -> bytes | None:
        """The same as the terminal event of a stream; None: this protocol has none, and the connection is broken off."""
        ...
