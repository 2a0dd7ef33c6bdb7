"""Metering a stream of OpenAI chunks while it passes.

Every event is forwarded as the bytes that came, except: usage that the caller did not ask for is taken out,
and `[DONE]` is kept back, because the lifecycle writes the usage record before it sends the last byte. An
event is only taken apart when it can carry usage or before the first content was seen. What it does not
know: I/O, clocks, money.
"""

from __future__ import annotations

import msgspec

from foundry.errors import FoundryError
from foundry.types.usage import UsageCounts

_NULL, _EMPTY_LIST = msgspec.Raw(b"null"), msgspec.Raw(b"[]")
_DONE = b"data: [DONE]\n\n"


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    cache_write_tokens: int | None = None


class Usage(msgspec.Struct):
    """OpenAI's `usage` object, as far as money needs it."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's place for cached input."""

    def counts(self) -> UsageCounts:
        """The same in our terms."""
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        return UsageCounts(
            input_tokens=self.prompt_tokens,
            cached_input_tokens=(prompt.cached_tokens if prompt else 0) or self.prompt_cache_hit_tokens or 0,
            output_tokens=self.completion_tokens or 0,
            reasoning_tokens=(completion.reasoning_tokens or 0) if completion else 0,
            cache_write_tokens=(prompt.cache_write_tokens or 0) if prompt else 0,
            audio_input_tokens=(prompt.audio_tokens or 0) if prompt else 0,
            audio_output_tokens=(completion.audio_tokens or 0) if completion else 0,
        )


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw = _NULL


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None


class _Error(msgspec.Struct):
    message: str = "the upstream reported an error without a message"


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_usage = msgspec.json.Decoder(Usage | None)
_choices = msgspec.json.Decoder(list[_Choice])
_error = msgspec.json.Decoder(_Error | str)
_encoder = msgspec.json.Encoder()


class SseMeter:
    """Meter of one stream of `data: {...}` events."""

    __slots__ = (
        "_content_events",
        "_head",
        "_last",
        "_last_usage",
        "_pending",
        "_running_only",
        "_wants_usage",
        "ended",
        "error",
        "started",
    )

    def __init__(self, *, wants_usage: bool, wants_running_usage: bool) -> None:
        self.started = False
        self.ended = False
        self.error: str | None = None
        self._wants_usage = wants_usage
        self._running_only = wants_running_usage
        self._pending = b""
        self._last_usage: msgspec.Raw | None = None
        self._content_events = 0
        self._last = b""
        """The last content event: whether it says anything only matters where nobody tells usage."""
        self._head: dict[str, msgspec.Raw] | None = None
        """Of the chunk that told usage beside choices, which the caller still has to be told."""

    def feed(self, data: bytes) -> bytes:
        """Bytes from the upstream to bytes for the caller."""
        if self._pending:
            data = self._pending + data
        if b"\r" in data:  # a search for one byte is five times as fast; JSON text holds none
            data = data.replace(b"\r\n", b"\n")
        head, separator, self._pending = data.rpartition(b"\n\n")
        if not separator:
            return b""
        return b"".join([self._event(event) for event in head.split(b"\n\n")])

    def close(self) -> bytes:
        """Nothing: a stream without `[DONE]` is not whole."""
        return b""

    def tail(self) -> bytes:
        """The end marker, kept back until the usage record is written; before it the usage, where the caller asked for it and
        it came beside choices."""
        if self._head is None or not self._wants_usage or self._running_only:
            return _DONE
        return b"data: " + _encoder.encode(self._head) + b"\n\n" + _DONE

    def failure(self, error: FoundryError, request_id: str) -> bytes | None:
        """None: the protocol's error event needs nothing of what has passed."""
        del error, request_id
        return None

    @property
    def estimates(self) -> bool:
        """Never: what is told is told whole."""
        return False

    def counts(self) -> UsageCounts | None:
        """The latest counts the upstream told."""
        if self._last_usage is None:
            return None
        usage = _usage.decode(self._last_usage)
        return usage.counts() if usage else None

    def estimated_output_tokens(self) -> int:
        """One token per content event: what OpenAI-compatible servers send at their finest. A finish reason alone is none."""
        return self._content_events - (self._content_events > 1 and not _says(self._last))

    def _event(self, event: bytes) -> bytes:
        if not event.startswith(b"data:"):
            return event + b"\n\n" if event.strip() else b""
        payload = event[5:].lstrip()
        if payload == b"[DONE]":
            self.ended = True
            return b""
        if self.started and b'"usage":' not in payload and not payload.startswith(b'{"error"'):
            self._content_events += 1
            self._last = payload
            return event + b"\n\n"
        try:
            fields = _members.decode(payload)
        except msgspec.DecodeError:
            return event + b"\n\n"  # not ours to judge: the caller asked the upstream, and gets its words
        return self._inspect(event, payload, fields)

    def _inspect(self, event: bytes, payload: bytes, fields: dict[str, msgspec.Raw]) -> bytes:
        if "error" in fields:
            self.error = _words(fields["error"])
            return b""  # the lifecycle ends the stream with this error in the gateway's own shape
        choices = fields.get("choices")
        empty = choices is None or choices == _EMPTY_LIST
        if not empty:
            self._content_events += self.started
            self._last = payload
            if not self.started and _has_content(choices):
                self.started = True
                self._content_events = 1
        usage = fields.get("usage")
        if usage is None:
            return event + b"\n\n"
        if usage != _NULL:
            self._last_usage = usage
        if self._wants_usage and (empty or self._running_only):
            self._head = None
            return event + b"\n\n"
        if empty:
            return b""
        if usage != _NULL:
            self._head = {**fields, "choices": _EMPTY_LIST}
        del fields["usage"]
        return b"data: " + _encoder.encode(fields) + b"\n\n"


def _says(payload: bytes) -> bool:
    try:
        return _has_content(_members.decode(payload).get("choices"))
    except msgspec.DecodeError:
        return True


def _has_content(choices: msgspec.Raw | None) -> bool:
    if choices is None:
        return False
    try:
        parsed = _choices.decode(choices)
    except msgspec.DecodeError:
        return True  # a shape we do not know: better an early first-token time than none
    return any(choice.text or (choice.delta is not None and _speaks(choice.delta)) for choice in parsed)


def _speaks(delta: _Delta) -> bool:
    return bool(
        delta.content or delta.reasoning or delta.reasoning_content or delta.refusal
    ) or delta.tool_calls not in (_NULL, _EMPTY_LIST)


def _words(raw: msgspec.Raw) -> str:
    try:
        error = _error.decode(raw)
    except msgspec.DecodeError:
        return bytes(raw).decode(errors="replace")
    return error if isinstance(error, str) else error.message
