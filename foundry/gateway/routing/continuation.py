"""A stream that broke off goes on at another target: what was said so far becomes the beginning of the next target's answer.

Where that is possible: chat with one choice that is plain text, no tool called, no schema to follow; and completions of one
prompt. The caller sees one stream: the second target's events carry the first one's id, and usage is the sum of both.
Pure. What it does not know: which target goes on (`dispatch.py`), I/O.
"""

from __future__ import annotations

from typing import Any

import msgspec

from foundry.codecs.base import Call, Meter
from foundry.errors import FoundryError, UnsupportedParameter
from foundry.gateway.upstream import Upstream
from foundry.types.usage import UsageCounts

PREFILL = "prefill"
"""Fact of a vendor's row (`TargetFacts.options`): how it is told to go on from an assistant's words. `message`: they are the
last message (Anthropic). `prefix`: the same, marked `prefix: true` (Mistral, DeepSeek). `continue_final_message`: as vLLM and
SGLang. Not there: it cannot."""
_ENGINE = "continue_final_message"
_PROTOCOLS = frozenset({"chat", "completions"})
_UNFIT = frozenset(
    {
        "audio", "best_of", "continue_final_message", "echo", "function_call", "functions", "guided_choice", "guided_grammar",
        "guided_json", "guided_regex", "modalities", "structured_outputs", "suffix", "use_beam_search",
    }
)  # fmt: skip
"""Members of a request whose answer cannot be cut in two."""
_BOUNDS = ("max_tokens", "max_completion_tokens")
_COMPACT_BYTES = 32 * 1024
_TEXT_ONLY = frozenset({"role", "content", "text"})

# Any: JSON objects of a protocol that this module only changes in places
Json = dict[str, Any]
_event = msgspec.json.Decoder(dict[str, Any])
_value = msgspec.json.Decoder()
_list = msgspec.json.Decoder(list[msgspec.Raw])
_message = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode
_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")


def may_continue(protocol: str, call: Call) -> bool:
    """Whether an answer to this request could be cut in two at all."""
    fields = call.fields
    if protocol not in _PROTOCOLS or not call.stream or not _UNFIT.isdisjoint(fields):
        return False
    if "n" in fields and bytes(fields["n"]) not in (b"1", b"null"):
        return False
    if "tool_choice" in fields and bytes(fields["tool_choice"]) not in (b'"auto"', b'"none"', b"null"):
        return False
    shape = fields.get("response_format")
    return shape is None or bytes(shape) in (b"null", b'{"type":"text"}')


class Transcript:
    """What went to the caller of one stream, in few bytes."""

    __slots__ = ("_raw", "_size", "_text", "finished", "head", "plain")

    def __init__(self) -> None:
        self._raw: list[bytes] = []
        self._size = 0
        self._text: list[str] = []
        self.head: Json = {}
        """`id`, `created` and `model` of the first event."""
        self.finished = False
        """The choice was ended with a reason: nothing is missing but the end marker."""
        self.plain = True
        """Nothing but text of choice 0 was said."""

    def add(self, out: bytes) -> None:
        """What goes out: whole events."""
        self._raw.append(out)
        self._size += len(out)
        if self._size > _COMPACT_BYTES:
            self._compact()

    def text(self) -> str:
        """All of it."""
        self._compact()
        return "".join(self._text)

    def _compact(self) -> None:
        for event in b"".join(self._raw).split(b"\n\n"):
            if event.startswith(b"data:"):
                self._read(event[5:])
        self._raw, self._size = [], 0
        self._text = ["".join(self._text)]

    def _read(self, payload: bytes) -> None:
        try:
            event = _event.decode(payload)
        except msgspec.DecodeError:
            self.plain = False
            return
        if not self.head:
            self.head = {name: event[name] for name in ("id", "created", "model") if name in event}
        for choice in event.get("choices") or []:
            self._hear(choice)

    def _hear(self, choice: Json) -> None:
        said: Json = choice.get("delta") or choice
        strange = {
            name for name, value in said.items() if value and name not in _TEXT_ONLY and said is not choice
        }
        if strange or choice.get("index", 0) != 0:
            self.plain = False
        self._text.append(said.get("content") or said.get("text") or "")
        self.finished = self.finished or choice.get("finish_reason") is not None


class Continuation:
    """The rest of one broken answer. said: all that went out; spent: what the attempts so far have used."""

    __slots__ = ("_protocol", "_said", "head", "spent", "trimmed")

    def __init__(self, protocol: str, transcript: Transcript, spent: UsageCounts) -> None:
        self._protocol = protocol
        said = transcript.text()
        # Models begin words with a space: an end without it is what they are used to going on from.
        self._said = said.rstrip()
        self.trimmed = said[len(self._said) :]
        """White space at the end of what was said: the next target says it again, and it is taken out there."""
        self.head = transcript.head
        self.spent = spent

    def call(self, call: Call, upstream: Upstream) -> Call:
        """The request for the rest. Raises UnsupportedParameter when this target cannot go on from somebody's words."""
        fields = dict(call.fields)
        if self._protocol == "chat":
            self._prefill(fields, upstream)
        else:
            fields["prompt"] = self._prompt(fields["prompt"], upstream)
        for name in _BOUNDS:
            bound = fields.get(name)
            if bound is not None and bytes(bound) != b"null":
                left = int(_value.decode(bound)) - self.spent.output_tokens
                fields[name] = _raw(max(1, left))
        return msgspec.structs.replace(call, fields=fields)

    def _prefill(self, fields: dict[str, msgspec.Raw], upstream: Upstream) -> None:
        options = upstream.facts.options
        how = _ENGINE if upstream.deployment else options.get(PREFILL) or options.get("prefill_field")
        messages = _list.decode(fields["messages"])
        if how is None or not messages or _message.decode(messages[-1]).get("role") == "assistant":
            raise _cannot(upstream)
        words: Json = {"role": "assistant", "content": self._said}
        if how == "prefix":
            words["prefix"] = True
        fields["messages"] = _raw([*messages, words])
        if how == _ENGINE:
            fields["continue_final_message"], fields["add_generation_prompt"] = _TRUE, _FALSE

    def _prompt(self, prompt: msgspec.Raw, upstream: Upstream) -> msgspec.Raw:
        text = _value.decode(prompt)
        if not isinstance(text, str):
            raise _cannot(upstream)
        return _raw(text + self._said)


def _cannot(upstream: Upstream) -> UnsupportedParameter:
    return UnsupportedParameter(f"{upstream.target_id} cannot go on from another target's words")


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))


class Spliced:
    """The meter of a continued stream: counts only the new attempt; its events pass as parts of the first stream."""

    __slots__ = ("_meter", "_rest", "_trimmed", "ended", "error", "started")

    def __init__(self, meter: Meter, rest: Continuation) -> None:
        self._meter = meter
        self._rest = rest
        self._trimmed = rest.trimmed
        self.started = self.ended = False
        self.error: str | None = None

    def feed(self, data: bytes) -> bytes:
        """Bytes from the second target to bytes of the first stream."""
        return self._joined(self._meter.feed(data))

    def close(self) -> bytes:
        """As the meter's."""
        return self._joined(self._meter.close())

    def tail(self) -> bytes:
        """As the meter's; usage in it is the sum of both."""
        *events, done, _ = self._meter.tail().split(b"\n\n")
        return b"".join(self._event(event) for event in events) + done + b"\n\n"

    def failure(self, error: FoundryError, request_id: str) -> bytes | None:
        """As the meter's."""
        return self._meter.failure(error, request_id)

    @property
    def estimates(self) -> bool:
        """As the meter's."""
        return self._meter.estimates

    def counts(self) -> UsageCounts | None:
        """Of the new attempt alone."""
        return self._meter.counts()

    def estimated_output_tokens(self) -> int:
        """Of the new attempt alone."""
        return self._meter.estimated_output_tokens()

    def _joined(self, out: bytes) -> bytes:
        meter = self._meter
        self.started, self.ended, self.error = meter.started, meter.ended, meter.error
        return b"".join(self._event(event) for event in out.split(b"\n\n") if event)

    def _event(self, event: bytes) -> bytes:
        if not event.startswith(b"data:"):
            return event + b"\n\n"
        fields = _event.decode(event[5:])
        fields.update(self._rest.head)
        usage = fields.get("usage")
        if usage:
            _add(usage, self._rest.spent)
        choices = [self._choice(choice) for choice in fields.get("choices") or []]
        if choices and not any(choices) and not usage:
            return b""
        return b"data: " + _encode(fields) + b"\n\n"

    def _choice(self, choice: Json) -> bool:
        """Take out what was said already; whether anything is left."""
        delta: Json | None = choice.get("delta")
        said: Json = choice if delta is None else delta
        said.pop("role", None)
        name = "content" if "content" in said else "text"
        text = said.get(name)
        if text and self._trimmed:
            common = 0
            while common < min(len(text), len(self._trimmed)) and text[common] == self._trimmed[common]:
                common += 1
            self._trimmed = self._trimmed[common:] if common == len(text) else ""
            said[name] = text = text[common:]
        more = delta is not None and any(delta[other] for other in delta.keys() - {name})
        return bool(text) or choice.get("finish_reason") is not None or more


def _add(usage: Json, spent: UsageCounts) -> None:
    """OpenAI's `usage` plus what the first attempts used."""
    usage["prompt_tokens"] = (usage.get("prompt_tokens") or 0) + spent.input_tokens
    usage["completion_tokens"] = (usage.get("completion_tokens") or 0) + spent.output_tokens
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    for group, name, more in (
        ("prompt_tokens_details", "cached_tokens", spent.cached_input_tokens),
        ("completion_tokens_details", "reasoning_tokens", spent.reasoning_tokens),
    ):
        details = usage.get(group)
        if details:
            details[name] = (details.get(name) or 0) + more
