"""Anthropic Messages on both sides: bytes pass through and are metered.

Every event goes on as it came, except `message_stop`, which is the tail: it goes out after the usage record is written.
What it does not know: I/O, clocks, money.
"""

from __future__ import annotations

import msgspec

from foundry.codecs.anthropic_errors import ErrorWords, told
from foundry.codecs.anthropic_target_answer import AnthropicEvent, AnthropicUsage, read_answer, read_event
from foundry.codecs.anthropic_target_request import PATH, headers
from foundry.codecs.base import BYTES_PER_TOKEN, SSE, Answer, Call, TargetFacts, Told, UpstreamRequest
from foundry.codecs.members import raw
from foundry.codecs.sse import event_data, named_event
from foundry.codecs.translate import estimated
from foundry.errors import FoundryError
from foundry.types.usage import UsageCounts

_STOP = named_event("message_stop", {"type": "message_stop"})
_encoder = msgspec.json.Encoder()


class AnthropicLeg:
    """Anthropic on both sides."""

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The body as it came, the model renamed."""
        fields = call.fields if target.model == call.model else {**call.fields, "model": raw(target.model)}
        return UpstreamRequest(PATH, _encoder.encode(fields), headers=headers(target))

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """The answer as it came. Raises UpstreamBroke when it is none."""
        del call, content_type
        read = read_answer(body)
        return Answer(body, read.counts, estimated(read) if read.counts is None else 0)

    def streams(self, content_type: str) -> bool:
        """Server-sent events."""
        return content_type == SSE

    def meter(self, call: Call) -> AnthropicMeter:
        """A fresh meter."""
        del call
        return AnthropicMeter()

    def told(self, body: bytes) -> Told:
        """Anthropic's words."""
        return told(body)


class AnthropicMeter:
    """Meter of one stream. Anthropic tells the input at the start and the output at the end: of a stream that was cut, the
    output is counted by us."""

    __slots__ = ("_bytes", "_pending", "_usage", "_whole", "ended", "error", "started")

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self.error: str | None = None
        self._pending = b""
        self._usage: AnthropicUsage | None = None
        self._whole = False  # the final usage came
        self._bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Bytes from the upstream to bytes for the caller. Raises UpstreamBroke."""
        if self._pending:
            data = self._pending + data
        if b"\r" in data:  # a search for one byte is five times as fast; JSON text holds none
            data = data.replace(b"\r\n", b"\n")
        head, separator, self._pending = data.rpartition(b"\n\n")
        if not separator:
            return b""
        return b"".join([self._event(event) for event in head.split(b"\n\n")])

    def close(self) -> bytes:
        """The last event of a stream that ended without its blank line; one without `message_stop` is not whole."""
        event, self._pending = self._pending.strip(b"\r\n"), b""
        return self._event(event) if event else b""

    def tail(self) -> bytes:
        """`message_stop`, kept back until the usage record is written."""
        return _STOP

    def failure(self, error: FoundryError, request_id: str) -> bytes | None:
        """None: the protocol's error event needs nothing of what has passed."""
        del error, request_id
        return None

    @property
    def estimates(self) -> bool:
        """Until the final usage came: the output."""
        return self._usage is not None and not self._whole

    def counts(self) -> UsageCounts | None:
        """The latest counts."""
        if self._usage is None:
            return None
        counts = self._usage.counts()
        if self._whole:
            return counts
        output_tokens = max(counts.output_tokens, self.estimated_output_tokens())
        return msgspec.structs.replace(counts, output_tokens=output_tokens)

    def estimated_output_tokens(self) -> int:
        """Bytes of what passed over `BYTES_PER_TOKEN`."""
        return -(-self._bytes // BYTES_PER_TOKEN)

    def _event(self, event: bytes) -> bytes:
        data = event_data(event)
        if data is None:
            return event + b"\n\n" if event.strip() else b""
        return event + b"\n\n" if self._note(read_event(data)) else b""

    def _note(self, event: AnthropicEvent) -> bool:
        """Remember what an event says; whether it goes on."""
        match event.type:
            case "content_block_delta" if event.delta is not None:
                said = event.delta.text or event.delta.thinking or event.delta.partial_json
                self.started = self.started or bool(said)
                self._bytes += len(said.encode())
            case "content_block_start" if event.content_block is not None:
                self.started = self.started or event.content_block.type == "tool_use"
            case "message_start" if event.message is not None:
                usage = event.message.usage
                self._usage = usage if usage is not None and usage.input_tokens is not None else None
            case "message_delta" if event.usage is not None:
                self._usage = (self._usage or AnthropicUsage()).merged(event.usage)
                self._whole = True
            case "message_stop":
                self.ended = True
                return False
            case "error":
                self.error = (event.error or ErrorWords()).message
                return False  # the lifecycle ends the stream with this error in the gateway's own shape
            case _:
                pass
        return True
