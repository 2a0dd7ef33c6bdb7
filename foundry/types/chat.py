"""A conversation with a model, neutral between wire protocols: request, whole answer, and the events of a streamed one.

Only requests whose target speaks another protocol than the caller pass through these (`codecs/translate.py`); the rest
pass as the bytes that came. msgspec structs, as they are made per request and per event (decision 0002). What it does not
know: any wire format.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from foundry.types.usage import UsageCounts

Role = Literal["system", "developer", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "pause"]
"""stop: the end, or a stop sequence. length: the token limit. pause: the target wants the turn continued (Anthropic)."""
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Plain text."""

    text: str
    cache_breakpoint: bool = False
    """The caller marked this as the end of a reusable prefix (Anthropic's `cache_control`)."""


class Image(msgspec.Struct, frozen=True, tag="image"):
    """An image: by URL, by an id at the platform or target, or its bytes in base64 with their media type."""

    url: str | None = None
    data_base64: str | None = None
    media_type: str | None = None
    detail: str | None = None
    file_id: str | None = None


class Audio(msgspec.Struct, frozen=True, tag="audio"):
    """Sound in base64; format: "wav", "mp3"."""

    data_base64: str
    format: str


class File(msgspec.Struct, frozen=True, tag="file"):
    """A document: its bytes in base64 with their media type, a URL, or an id at the platform or target."""

    data_base64: str | None = None
    media_type: str | None = None
    filename: str | None = None
    file_id: str | None = None
    url: str | None = None


class Reasoning(msgspec.Struct, frozen=True, tag="reasoning"):
    """The model's thoughts; `signature` and `redacted_base64` must go back unchanged to the target that made them."""

    text: str = ""
    signature: str | None = None
    redacted_base64: str | None = None


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The model's words for why it does not answer."""

    text: str


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    """The model calls a tool; `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    """What a tool answered to the call with this id."""

    call_id: str
    parts: tuple[Text | Image | File, ...]
    is_error: bool = False


Part = Text | Image | Audio | File | Reasoning | Refusal | ToolCall | ToolResult


class Message(msgspec.Struct, frozen=True):
    """One turn."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b'{"type":"object","properties":{}}')
    """JSON schema of the arguments."""
    strict: bool | None = None
    cache_breakpoint: bool = False
    """As in `Text`."""


class ToolChoice(msgspec.Struct, frozen=True):
    """Which tool the model must or may call; `name` for mode `named`."""

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None


class OutputFormat(msgspec.Struct, frozen=True):
    """`json_object`: any JSON. `json_schema`: JSON that follows `schema`."""

    kind: Literal["text", "json_object", "json_schema"]
    name: str = "answer"
    schema: msgspec.Raw = msgspec.Raw(b"{}")
    strict: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request for a chat answer. None: the caller said nothing, and the target's default holds."""

    messages: tuple[Message, ...]
    stream: bool = False
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output_format: OutputFormat | None = None
    reasoning_effort: ReasoningEffort | None = None
    reasoning_budget_tokens: int | None = None
    user: str | None = None
    prefill: bool = False
    """The last message is the beginning of the answer, which goes on from there (Anthropic's way; vLLM's
    `continue_final_message`)."""
    others: dict[str, msgspec.Raw] = {}
    """Members of the caller's body that have no place above, by their name in the caller's protocol; what is nested by its
    path, e.g. "tools.web_search". A dialect sends what its target has too and raises UnsupportedParameter, which names
    parameter and target, for the rest (`codecs.translate.carried`)."""


class Choice(msgspec.Struct, frozen=True):
    """One of the n answers; `logprobs` is OpenAI's `logprobs` object, untouched."""

    index: int
    parts: tuple[Part, ...]
    finish_reason: FinishReason | None
    logprobs: msgspec.Raw | None = None
    stop_sequence: str | None = None


class ChatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer; `counts` is None when the target told no usage."""

    id: str
    choices: tuple[Choice, ...]
    counts: UsageCounts | None


class Started(msgspec.Struct, frozen=True):
    """The target has begun; `counts` if it already told the input tokens."""

    id: str
    counts: UsageCounts | None = None


class TextDelta(msgspec.Struct, frozen=True):
    """More text of one choice; `logprobs` as in `Choice`."""

    text: str
    index: int = 0
    logprobs: msgspec.Raw | None = None


class RefusalDelta(msgspec.Struct, frozen=True):
    """More of a refusal."""

    text: str
    index: int = 0


class ReasoningDelta(msgspec.Struct, frozen=True):
    """More thoughts, or their signature at the end of them."""

    text: str = ""
    signature: str | None = None
    redacted_base64: str | None = None
    index: int = 0


class ToolCallDelta(msgspec.Struct, frozen=True):
    """Of the tool call number `call` of a choice: its id and name with the first of it, then pieces of its JSON arguments."""

    call: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None
    index: int = 0


class Finished(msgspec.Struct, frozen=True):
    """One choice is whole."""

    reason: FinishReason
    index: int = 0
    stop_sequence: str | None = None


class Counted(msgspec.Struct, frozen=True):
    """The counts so far; the last one that comes is final."""

    counts: UsageCounts


class Failed(msgspec.Struct, frozen=True):
    """The target reported an error inside the stream, in these words."""

    message: str


class Ended(msgspec.Struct, frozen=True):
    """The target's end marker: the stream is whole."""


ChatEvent = (
    Started | TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta | Finished | Counted | Failed | Ended
)
