"""Metering streams while they pass: typed server-sent events (transcripts, speech, images), and plain bytes (speech).

Events go on as the bytes that came, but for three: the closing ones are kept back, because the lifecycle writes the usage
record before it sends the end; errors become the gateway's own; and vLLM's transcription chunks, which look like chat
chunks, become the events that OpenAI's clients know. What it does not know: I/O, clocks, money.
"""

from __future__ import annotations

import msgspec

from foundry.codecs.media_usage import MediaUsage
from foundry.errors import FoundryError
from foundry.types.usage import UsageCounts

_FINAL = frozenset(
    {"transcript.text.done", "speech.audio.done", "image_generation.completed", "image_edit.completed"}
)
_CONTENT = _FINAL | {
    "transcript.text.delta",
    "transcript.text.segment",
    "speech.audio.delta",
    "image_generation.partial_image",
    "image_edit.partial_image",
}
_NO_REASON = "the upstream reported an error without a message"


_ABSENT = msgspec.Raw(b"null")
"""Of a member that need not be there: `Raw | None` is no type that msgspec decodes."""


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None


class _Event(msgspec.Struct):
    type: str | None = None
    delta: str | None = None
    choices: list[_Choice] | None = None
    """vLLM's chunks only."""
    usage: MediaUsage | None = None
    error: msgspec.Raw = _ABSENT
    message: str | None = None


class _Words(msgspec.Struct):
    message: str = _NO_REASON


_event = msgspec.json.Decoder(_Event)
_words = msgspec.json.Decoder(_Words | str)
_encode = msgspec.json.Encoder().encode


class EventMeter:
    """Meter of one stream of typed events.

    finals: how many closing events make it whole. per_final: what one of them counts as when the target tells no usage.
    untold: what the whole stream counts as then, from its first content on.
    """

    __slots__ = (
        "_deltas", "_finals", "_held", "_parts", "_per_final", "_said", "_seen", "_untold", "_usage", "ended", "error", "started",
    )  # fmt: skip

    def __init__(
        self, *, finals: int = 1, per_final: UsageCounts | None = None, untold: UsageCounts | None = None
    ) -> None:
        self.started = False
        self.ended = False
        self.error: str | None = None
        self._finals, self._seen, self._per_final, self._untold = finals, 0, per_final, untold
        self._parts: list[bytes] = []  # of an event that is not whole yet: images come in megabytes
        self._held = b""
        self._said: list[str] = []  # by vLLM, for the closing event that it does not send
        self._deltas = 0
        self._usage: UsageCounts | None = None

    def feed(self, data: bytes) -> bytes:
        """Bytes from the upstream to bytes for the caller; incomplete events and the closing one stay here."""
        if self.ended or not data:
            return b""
        if self._parts:
            edge = self._parts[-1][-3:]
            if (
                b"\n\n" not in edge + data
                and b"\r" not in edge + data[:4] + data[-4:]
                and b"\n\r\n" not in data
            ):
                self._parts.append(data)
                return b""
            data = b"".join((*self._parts, data))
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        head, separator, rest = data.rpartition(b"\n\n")
        self._parts = [rest] if rest else []
        return b"".join([self._pass(event) for event in head.split(b"\n\n")]) if separator else b""

    def close(self) -> bytes:
        """The upstream closed: a stream whose closing events are all here, or that has had one, is whole."""
        rest = b"".join(self._parts)
        self._parts = []
        out = self._pass(rest) if rest.strip() else b""
        if self._seen and self.error is None:
            self.ended = True
        return out

    def tail(self) -> bytes:
        """The closing event."""
        return self._held

    def failure(self, error: FoundryError, request_id: str) -> bytes | None:
        """None: the protocol's error event needs nothing of what has passed."""
        del error, request_id
        return None

    @property
    def estimates(self) -> bool:
        """Never: what is told is told whole."""
        return False

    def counts(self) -> UsageCounts | None:
        """What the upstream told; else what its closing events count as."""
        if self._usage is not None:
            return self._usage
        if self._per_final is not None and self._seen:
            total = self._per_final
            for _ in range(self._seen - 1):
                total = total + self._per_final
            return total
        return self._untold if self.started else None

    def estimated_output_tokens(self) -> int:
        """Pieces of text."""
        return self._deltas

    def _pass(self, event: bytes) -> bytes:
        payload = _payload(event)
        if self.ended:
            return b""
        if payload is None:
            return event + b"\n\n" if event.strip() else b""
        if payload == b"[DONE]":
            return self._done()
        try:
            read = _event.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return event + b"\n\n"  # not ours to judge
        if read.error != _ABSENT or read.type == "error":
            self.error = _reason(read)
            return b""
        self._count(read)
        if read.choices is not None:
            return self._chunk(read.choices)
        if read.type in _CONTENT:
            self.started = True
            self._deltas += 1
        if read.type in _FINAL:
            return self._final(event)
        return event + b"\n\n"

    def _final(self, event: bytes) -> bytes:
        self._seen += 1
        if self._seen < self._finals:
            return event + b"\n\n"
        self._held, self.ended = event + b"\n\n", True
        return b""

    def _done(self) -> bytes:
        """vLLM's only end marker; of others it follows the closing event, or comes instead of some."""
        if self._said or not self._seen:
            closing: dict[str, object] = {"type": "transcript.text.done", "text": "".join(self._said)}
            if self._usage is not None:
                told = self._usage.input_tokens, self._usage.output_tokens
                closing["usage"] = {
                    "type": "tokens",
                    "input_tokens": told[0],
                    "output_tokens": told[1],
                    "total_tokens": sum(told),
                }
            self._held = b"data: " + _encode(closing) + b"\n\n"
        self.ended = True
        return b""

    def _chunk(self, choices: list[_Choice]) -> bytes:
        text = "".join((choice.delta.content or "") if choice.delta else "" for choice in choices)
        if not text:
            return b""
        self.started = True
        self._deltas += 1
        self._said.append(text)
        return b"data: " + _encode({"type": "transcript.text.delta", "delta": text}) + b"\n\n"

    def _count(self, read: _Event) -> None:
        told = read.usage.counts() if read.usage else None
        if told is None:
            return
        final = read.type in _FINAL and self._usage is not None and self._seen
        self._usage = self._usage + told if final and self._usage is not None else told


class ByteMeter:
    """Meter of sound that passes as it comes: it ends when the upstream closes. counts: of the request, which is all
    that is known."""

    __slots__ = ("_counts", "ended", "error", "started")

    def __init__(self, counts: UsageCounts) -> None:
        self.started = False
        self.ended = False
        self.error: str | None = None
        self._counts = counts

    def feed(self, data: bytes) -> bytes:
        """The same bytes."""
        self.started = self.started or bool(data)
        return data

    def close(self) -> bytes:
        """The end, unless nothing came at all."""
        self.ended = self.started
        return b""

    def tail(self) -> bytes:
        """Nothing: the connection's own end is the end."""
        return b""

    def failure(self, error: FoundryError, request_id: str) -> bytes | None:
        """None: the protocol's error event needs nothing of what has passed."""
        del error, request_id
        return None

    @property
    def estimates(self) -> bool:
        """Never: it is all known from the request."""
        return False

    def counts(self) -> UsageCounts | None:
        """Of the request, once sound has come."""
        return self._counts if self.started else None

    def estimated_output_tokens(self) -> int:
        """Sound has none."""
        return 0


def _payload(event: bytes) -> bytes | None:
    """The data of an event, or None for a comment or a keep-alive."""
    if event.startswith(b"data:") and b"\n" not in event:  # nearly all of them
        return event[5:].lstrip()
    lines = [line[5:].lstrip() for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def _reason(read: _Event) -> str:
    if read.error == _ABSENT:
        return read.message or _NO_REASON
    try:
        words = _words.decode(read.error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return bytes(read.error).decode(errors="replace")
    return words if isinstance(words, str) else words.message
