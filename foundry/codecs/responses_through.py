"""The Responses API on both sides: bytes pass through and are metered, for vendors that have it (wire "openai-responses").

State is the platform's (`gateway/stateful`): earlier items are already in `input`, so the vendor is asked to store nothing and to
hand out its thoughts encrypted, which is how they come back. What it does not know: I/O, clocks, money.
"""

from __future__ import annotations

import msgspec

from foundry.codecs.base import BYTES_PER_TOKEN, SSE, Answer, Call, TargetFacts, Told, UpstreamRequest
from foundry.codecs.members import FALSE, optional, raw
from foundry.codecs.openai import told
from foundry.codecs.responses_object import failure_of
from foundry.codecs.sse import event_data, named_event
from foundry.errors import FoundryError, UpstreamBroke
from foundry.types.usage import UsageCounts

PATH = "/v1/responses"
_THOUGHTS = "reasoning.encrypted_content"
_OURS = frozenset({"previous_response_id", "conversation", "background", "store", "model"})
_FAILURES = frozenset({"error", "response.failed"})
_WORDS = 300
"""Characters of something unreadable that are quoted."""
_encoder = msgspec.json.Encoder()
_strings = msgspec.json.Decoder(list[str])


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    def counts(self) -> UsageCounts:
        """The same in our terms."""
        told_in, told_out = self.input_tokens_details, self.output_tokens_details
        return UsageCounts(
            input_tokens=self.input_tokens,
            cached_input_tokens=(told_in.cached_tokens or 0) if told_in else 0,
            cache_write_tokens=(told_in.cache_write_tokens or 0) if told_in else 0,
            output_tokens=self.output_tokens,
            reasoning_tokens=(told_out.reasoning_tokens or 0) if told_out else 0,
        )


class _Words(msgspec.Struct):
    message: str = "an error without a message"


class _Piece(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    content: list[_Piece] | None = None
    summary: list[_Piece] | None = None
    arguments: str | None = None

    def size(self) -> int:
        """Bytes of what was said, thought and called."""
        pieces = (*(self.content or ()), *(self.summary or ()))
        said = (self.arguments, *(piece.text for piece in pieces), *(piece.refusal for piece in pieces))
        return sum(len(text.encode()) for text in said if text)


class _Output(msgspec.Struct):
    output: list[_Item] = []


class _Response(msgspec.Struct):
    status: str = "completed"
    usage: _Usage | None = None
    error: _Words | None = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: str | msgspec.UnsetType | None = msgspec.UNSET
    response: _Response | None = None
    message: str | None = None
    error: _Words | None = None
    sequence_number: int | None = None


_response = msgspec.json.Decoder(_Response)
_output = msgspec.json.Decoder(_Output)
_event = msgspec.json.Decoder(_Event)


class ResponsesLeg:
    """The Responses API on both sides."""

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The body with the model renamed and without what the platform does itself. Raises InvalidParameter."""
        fields = {name: value for name, value in call.fields.items() if name not in _OURS}
        include = optional(fields, "include", _strings) or []
        if _THOUGHTS not in include:
            fields["include"] = raw([*include, _THOUGHTS])
        return UpstreamRequest(PATH, _encoder.encode({"model": target.model, "store": FALSE, **fields}))

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """The answer as it came, under the caller's names. Raises UpstreamBroke."""
        del content_type
        try:
            read = _response.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            words = body[:_WORDS].decode(errors="replace")
            raise UpstreamBroke(f"the upstream's answer cannot be read ({error}): {words}") from error
        if read.status == "failed":
            raise UpstreamBroke(f"the upstream failed: {(read.error or _Words()).message}")
        counts = read.usage.counts() if read.usage else None
        return Answer(renamed(body, call), counts, _estimated(body) if counts is None else 0)

    def streams(self, content_type: str) -> bool:
        """Server-sent events."""
        return content_type == SSE

    def meter(self, call: Call) -> ResponsesMeter:
        """A fresh meter."""
        return ResponsesMeter(call)

    def told(self, body: bytes) -> Told:
        """OpenAI's error object, or the beginning of whatever came."""
        return told(body)


def _estimated(body: bytes) -> int:
    try:
        output = _output.decode(body).output
    except msgspec.DecodeError:
        return -(-len(body) // BYTES_PER_TOKEN)  # items of a shape to come: better too much than nothing
    return -(-sum(item.size() for item in output) // BYTES_PER_TOKEN)


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def renamed(body: bytes, call: Call) -> bytes:
    """A response under the names that the caller knows: the public model, what it asked of the store, and the id that was given
    out before, if one was."""
    fields = _members.decode(body)
    fields["model"] = raw(call.model)
    for name in ("store", "background", "previous_response_id", "conversation"):
        if name in call.fields:
            fields[name] = call.fields[name]
    if call.answer_id:
        fields["id"] = raw(call.answer_id)
    return _encoder.encode(fields)


class ResponsesMeter:
    """Meter of one stream. Usage comes with the last event only: of a stream that was cut, nothing is told."""

    __slots__ = (
        "_bytes",
        "_call",
        "_number",
        "_pending",
        "_response",
        "_tail",
        "_usage",
        "ended",
        "error",
        "started",
    )

    def __init__(self, call: Call) -> None:
        self.started = False
        self.ended = False
        self.error: str | None = None
        self._call = call
        self._pending = b""
        self._tail = b""
        self._usage: _Usage | None = None
        self._bytes = 0
        self._number = -1  # of the latest event
        self._response: msgspec.Raw | None = None  # as last told

    def feed(self, data: bytes) -> bytes:
        """Bytes from the upstream to bytes for the caller. Raises UpstreamBroke."""
        if self._pending:
            data = self._pending + data
        if b"\r" in data:  # a search for one byte is five times as fast; JSON text holds none
            data = data.replace(b"\r\n", b"\n")
        head, separator, self._pending = data.rpartition(b"\n\n")
        if not separator:
            return b""
        return b"".join([self._pass(event) for event in head.split(b"\n\n")])

    def close(self) -> bytes:
        """The last event of a stream that ended without its blank line."""
        event, self._pending = self._pending.strip(b"\r\n"), b""
        return self._pass(event) if event else b""

    def tail(self) -> bytes:
        """The event with the whole response, kept back until the usage record is written."""
        return self._tail

    def failure(self, error: FoundryError, request_id: str) -> bytes | None:
        """`response.failed`, numbered on from what has passed; None before the response was told of."""
        if self._response is None:
            return None
        told = failure_of(error, request_id)
        response = {**_members.decode(self._response), "status": raw("failed"), "error": raw(told)}
        members = {"sequence_number": self._number + 1, "response": response}
        return named_event("response.failed", {"type": "response.failed", **members})

    @property
    def estimates(self) -> bool:
        """Never: the counts come whole or not at all."""
        return False

    def counts(self) -> UsageCounts | None:
        """The counts, once told."""
        return self._usage.counts() if self._usage else None

    def estimated_output_tokens(self) -> int:
        """Bytes of what passed over `BYTES_PER_TOKEN`."""
        return -(-self._bytes // BYTES_PER_TOKEN)

    def _pass(self, event: bytes) -> bytes:
        data = event_data(event)
        if data is None or data == b"[DONE]" or self.ended:
            return b""
        try:
            read = _event.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamBroke(f"an event cannot be read ({error}): {data[:_WORDS]!r}") from error
        if isinstance(read.delta, str) and read.delta:
            self.started = True
            self._bytes += len(read.delta.encode())
        if read.type not in _FAILURES:  # they do not go on: their number is free for ours
            self._number = self._number + 1 if read.sequence_number is None else read.sequence_number
        if read.response is not None:
            return self._stage(read.type, data, read.response)
        if read.type == "error":
            words = read.error.message if read.error else read.message
            self.error = words or _Words().message
            return b""  # the lifecycle ends the stream with this error in the gateway's own shape
        return event + b"\n\n"

    def _stage(self, kind: str, data: bytes, response: _Response) -> bytes:
        """An event that holds a response: the last one is the tail."""
        fields = _members.decode(data)
        told = fields["response"] = msgspec.Raw(renamed(fields["response"], self._call))
        event = b"event: " + kind.encode() + b"\ndata: " + _encoder.encode(fields) + b"\n\n"
        self._usage = response.usage or self._usage
        if kind == "response.failed":
            self.error = (response.error or _Words()).message
            return b""
        if kind not in ("response.completed", "response.incomplete"):
            self._response = told
            return event
        self.ended, self._tail = True, event
        return b""
