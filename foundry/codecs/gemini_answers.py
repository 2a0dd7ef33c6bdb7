"""Google Gemini as a target: its answers, whole and streamed, and its errors, to the neutral chat types.

Counts: `promptTokenCount` includes cached tokens but not what tools added; `candidatesTokenCount` does not include thoughts, so
output = candidates + thoughts. A stream has no end marker: it is whole when every candidate has told why it finished and the
target closes. What it does not know: I/O, who called.
"""

from __future__ import annotations

from secrets import token_hex

import msgspec

from foundry.codecs.base import Told
from foundry.codecs.gemini_ids import OURS, SIGNED, seal
from foundry.codecs.sse import SseSplitter
from foundry.errors import UpstreamBroke
from foundry.types.chat import (
    ChatAnswer,
    ChatEvent,
    Choice,
    Counted,
    Ended,
    Failed,
    Finished,
    FinishReason,
    Part,
    Reasoning,
    ReasoningDelta,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from foundry.types.usage import UsageCounts

_FINISH: dict[str, FinishReason] = {
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
        ),
        "content_filter",
    ),
}  # fmt: skip
"""All others (STOP, OTHER, MALFORMED_FUNCTION_CALL, ...) are "stop", or "tool_calls" when a tool was called."""


class _Json(msgspec.Struct, rename="camel"):
    """Base: Gemini's names."""


class _FunctionCall(_Json):
    name: str
    args: msgspec.Raw = msgspec.Raw(b"{}")
    id: str | None = None


class _Part(_Json):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None


class _Content(_Json):
    parts: list[_Part] = []


class _Token(_Json):
    token: str = ""
    log_probability: float = 0.0


class _Top(_Json):
    candidates: list[_Token] = []


class _Logprobs(_Json):
    chosen_candidates: list[_Token] = []
    top_candidates: list[_Top] = []


class _Candidate(_Json):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int = 0
    logprobs_result: _Logprobs | None = None


class _Modality(_Json):
    modality: str = ""
    token_count: int = 0


class _Usage(_Json):
    prompt_token_count: int = 0
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int = 0
    cached_content_token_count: int = 0
    prompt_tokens_details: list[_Modality] = []
    cache_tokens_details: list[_Modality] = []
    candidates_tokens_details: list[_Modality] = []

    def counts(self) -> UsageCounts:
        """In our terms."""
        thoughts = self.thoughts_token_count or 0
        prompt, cached = self.prompt_tokens_details, self.cache_tokens_details
        return UsageCounts(
            input_tokens=self.prompt_token_count + self.tool_use_prompt_token_count,
            cached_input_tokens=self.cached_content_token_count,
            output_tokens=(self.candidates_token_count or 0) + thoughts,
            reasoning_tokens=thoughts,
            audio_input_tokens=_of("AUDIO", prompt) - _of("AUDIO", cached),
            image_input_tokens=_of("IMAGE", prompt) - _of("IMAGE", cached),
            audio_output_tokens=_of("AUDIO", self.candidates_tokens_details),
            image_output_tokens=_of("IMAGE", self.candidates_tokens_details),
        )


class _Feedback(_Json):
    block_reason: str | None = None


class _Error(_Json):
    message: str = "Gemini reported an error without a message"
    status: str = ""


class _Answer(_Json):
    candidates: list[_Candidate] = []
    usage_metadata: _Usage | None = None
    prompt_feedback: _Feedback | None = None
    response_id: str = ""
    error: _Error | None = None

    @property
    def blocked(self) -> bool:
        """The prompt itself was refused."""
        return (
            not self.candidates
            and self.prompt_feedback is not None
            and bool(self.prompt_feedback.block_reason)
        )


_answer = msgspec.json.Decoder(_Answer)
_errors = msgspec.json.Decoder(list[_Answer])
_encoder = msgspec.json.Encoder()


def read_answer(body: bytes) -> ChatAnswer:
    """A whole answer. Raises UpstreamBroke."""
    answer = _read(body)
    if answer.error is not None:
        raise UpstreamBroke(f"Gemini answered with an error: {answer.error.message}")
    choices = tuple(_choice(candidate) for candidate in answer.candidates)
    if answer.blocked:
        choices = (Choice(index=0, parts=(), finish_reason="content_filter"),)
    usage = answer.usage_metadata
    return ChatAnswer(
        id=answer.response_id or token_hex(12), choices=choices, counts=usage.counts() if usage else None
    )


def told(body: bytes) -> Told:
    """An error answer's words: an object, or a list of one for a request that wanted a stream."""
    decoders: tuple[msgspec.json.Decoder[_Answer] | msgspec.json.Decoder[list[_Answer]], ...] = (
        _answer,
        _errors,
    )
    for decoder in decoders:
        try:
            found = decoder.decode(body)
        except (msgspec.DecodeError, RecursionError):
            continue
        first = found if isinstance(found, _Answer) else next(iter(found), None)
        if first is not None and first.error is not None:
            return Told(first.error.message)
    return Told(body.decode(errors="replace"))


class GeminiReader:
    """Events of one stream."""

    __slots__ = ("_calls", "_events", "_finished", "_seen", "_started")

    def __init__(self) -> None:
        self._events = SseSplitter()
        self._started = False
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._calls: dict[int, int] = {}

    def feed(self, data: bytes) -> list[ChatEvent]:
        """Events that are complete now. Raises UpstreamBroke."""
        return [event for payload in self._events.feed(data) for event in self._chunk(payload)]

    def close(self) -> list[ChatEvent]:
        """`Ended` when every candidate had finished."""
        events = [event for payload in self._events.close() for event in self._chunk(payload)]
        if self._finished and self._finished >= self._seen:
            events.append(Ended())
        return events

    def _chunk(self, payload: bytes) -> list[ChatEvent]:
        chunk = _read(payload)
        if chunk.error is not None:
            return [Failed(chunk.error.message)]
        events: list[ChatEvent] = []
        usage = chunk.usage_metadata
        running = usage is not None and not (
            usage.candidates_token_count is None and usage.thoughts_token_count is None
        )
        if not self._started:
            self._started = True
            events.append(
                Started(chunk.response_id or token_hex(12), usage.counts() if usage and not running else None)
            )
        for candidate in chunk.candidates:
            events.extend(self._candidate(candidate))
        if chunk.blocked:
            self._seen.add(0)
            self._finished.add(0)
            events.append(Finished("content_filter"))
        if usage is not None and (running or self._finished):
            events.append(Counted(usage.counts()))
        return events

    def _candidate(self, candidate: _Candidate) -> list[ChatEvent]:
        index = candidate.index
        self._seen.add(index)
        events: list[ChatEvent] = []
        logprobs = _logprobs(candidate.logprobs_result)
        for part in candidate.content.parts if candidate.content else ():
            event = self._part(part, index, logprobs)
            if isinstance(event, TextDelta):
                logprobs = None
            if event is not None:
                events.append(event)
            if part.thought_signature is not None and part.function_call is None:
                events.append(ReasoningDelta(signature=SIGNED + part.thought_signature, index=index))
        if candidate.finish_reason and index not in self._finished:
            self._finished.add(index)
            events.append(Finished(_finish(candidate.finish_reason, called=index in self._calls), index))
        return events

    def _part(self, part: _Part, index: int, logprobs: msgspec.Raw | None) -> ChatEvent | None:
        if part.function_call is not None:
            number = self._calls.get(index, 0)
            self._calls[index] = number + 1
            call = _tool_call(part.function_call, part.thought_signature)
            return ToolCallDelta(number, arguments=call.arguments, id=call.id, name=call.name, index=index)
        if not part.text:
            return None
        return (
            ReasoningDelta(part.text, index=index) if part.thought else TextDelta(part.text, index, logprobs)
        )


def _read(payload: bytes) -> _Answer:
    try:
        return _answer.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UpstreamBroke(f"Gemini's answer cannot be read: {error}") from error


def _of(modality: str, details: list[_Modality]) -> int:
    return sum(entry.token_count for entry in details if entry.modality == modality)


def _finish(reason: str, *, called: bool) -> FinishReason:
    return _FINISH.get(reason) or ("tool_calls" if called else "stop")


def _tool_call(call: _FunctionCall, signature: str | None) -> ToolCall:
    call_id = seal(call.id or OURS + token_hex(12), signature)
    return ToolCall(id=call_id, name=call.name, arguments=bytes(call.args).decode())


def _choice(candidate: _Candidate) -> Choice:
    parts: list[Part] = []
    for part in candidate.content.parts if candidate.content else ():
        if part.function_call is not None:
            parts.append(_tool_call(part.function_call, part.thought_signature))
            continue
        signature = SIGNED + part.thought_signature if part.thought_signature else None
        if part.thought or signature:
            parts.append(Reasoning(text=(part.text or "") if part.thought else "", signature=signature))
        if part.text and not part.thought:
            parts.append(Text(part.text))
    called = any(isinstance(part, ToolCall) for part in parts)
    reason = _finish(candidate.finish_reason, called=called) if candidate.finish_reason else None
    return Choice(candidate.index, _joined(parts), reason, logprobs=_logprobs(candidate.logprobs_result))


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """Pieces of text that follow each other are one text."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(last, Text):
            joined[-1] = Text(last.text + part.text)
        else:
            joined.append(part)
    return tuple(joined)


def _logprobs(result: _Logprobs | None) -> msgspec.Raw | None:
    """As OpenAI writes them."""
    if result is None:
        return None
    tops = result.top_candidates or [_Top()] * len(result.chosen_candidates)
    content = [
        {**_logprob(chosen), "top_logprobs": [_logprob(token) for token in top.candidates]}
        for chosen, top in zip(result.chosen_candidates, tops, strict=False)
    ]
    return msgspec.Raw(_encoder.encode({"content": content, "refusal": None}))


def _logprob(token: _Token) -> dict[str, object]:
    return {"token": token.token, "logprob": token.log_probability, "bytes": list(token.token.encode())}
