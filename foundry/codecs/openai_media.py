"""What the codecs of sound, images and pooling share: one shape of codec for JSON bodies, one leg that passes bytes through.

What it does not know: any one endpoint (`pooling.py`, `audio.py`, `images.py`), I/O, money.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from foundry.codecs.base import JSON, SSE, Answer, Call, Meter, TargetFacts, Told, UpstreamRequest
from foundry.codecs.event_meter import EventMeter
from foundry.codecs.fields import model_name, split, text
from foundry.codecs.media_usage import pooling_counts
from foundry.codecs.openai_errors import error_body, error_event
from foundry.errors import FoundryError, InvalidParameter, UnsupportedMedia, UnsupportedParameter
from foundry.types.deployment import Task
from foundry.types.usage import UsageCounts

Members = dict[str, msgspec.Raw]
SSE_TYPE = f"{SSE}; charset=utf-8"
PATH = "path."
"""`TargetFacts.options["path.<codec>"]`: where a target serves the endpoint, when it is not the usual place."""
UNSUPPORTED = "unsupported."
"""`TargetFacts.options["unsupported.<codec>"]`: names of parameters that the target is known to lack, with commas between."""
_FORMS = ("multipart/", "application/x-www-form-urlencoded")
_QUOTED = 500
"""Characters of an unreadable error body that are quoted."""


@dataclass(frozen=True, slots=True)
class MediaCodec:
    """One of OpenAI's (or vLLM's) endpoints with a JSON body and a JSON answer."""

    name: str
    path: str
    tasks: frozenset[Task]
    required: tuple[tuple[str, ...], ...] = ()
    """Of each group one member must be there."""

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody, UnsupportedMedia or InvalidParameter."""
        fields = self.members(body, content_type)
        return Call(model=model_name(fields), stream=False, fields=fields, user=user_of(fields))

    def members(self, body: bytes, content_type: str) -> Members:
        """The body's members, the required ones among them."""
        if content_type[:40].lower().startswith(_FORMS):
            raise UnsupportedMedia(f"{self.path} reads {JSON}, not {content_type.partition(';')[0][:100]}")
        fields = split(body)
        for group in self.required:
            if not any(name in fields for name in group):
                names = " or ".join(f"'{name}'" for name in group)
                raise InvalidParameter(f"{names} is required", param=group[0])
        return fields

    def stream_type(self, upstream_type: str) -> str:
        """Streams of these endpoints are server-sent events."""
        del upstream_type
        return SSE_TYPE

    def error_body(self, error: FoundryError, request_id: str) -> bytes:
        """`{"error": {...}}`."""
        return error_body(error, request_id)

    def error_event(self, error: FoundryError, request_id: str) -> bytes | None:
        """The same as a server-sent event: what the official clients raise on."""
        return error_event(error, request_id)


@dataclass(frozen=True, slots=True)
class MediaLeg:
    """From one of those endpoints to a target that has the same one."""

    name: str
    """Of the codec."""
    path: str
    """At the target."""

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The body as it came, with the target's model."""
        refuse_unsupported(self.name, call, target)
        return UpstreamRequest(self.path_at(target), renamed(call, target))

    def path_at(self, target: TargetFacts) -> str:
        """Where this target serves it."""
        return target.options.get(PATH + self.name, self.path)

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """The answer as it came, counted."""
        del call
        return Answer(body, self.counts(body), content_type=content_type or JSON)

    def counts(self, body: bytes) -> UsageCounts | None:
        """What a whole JSON answer tells, or None."""
        return pooling_counts(body)

    def streams(self, content_type: str) -> bool:
        """Server-sent events."""
        return content_type.startswith(SSE)

    def meter(self, call: Call) -> Meter:
        """Of server-sent events that end by closing."""
        del call
        return EventMeter()

    def told(self, body: bytes) -> Told:
        """OpenAI's `error`, FastAPI's `detail`, a bare `message`, or the beginning of whatever it is."""
        return told(body)


def user_of(fields: Members) -> str:
    """The end user that the caller names, or ''. Raises InvalidParameter when it is no string."""
    return text(fields, "safety_identifier") or text(fields, "user")


def renamed(call: Call, target: TargetFacts) -> bytes:
    """The body for the target: model renamed, all else as it came."""
    if target.model == call.model and "model" in call.fields:
        return encode(call.fields)
    return encode({**call.fields, "model": target.model})


def refuse_unsupported(codec: str, call: Call, target: TargetFacts) -> None:
    """Raises UnsupportedParameter for a parameter that the target is known to lack."""
    lacking = target.options.get(UNSUPPORTED + codec)
    if lacking is None:
        return
    for name in lacking.split(","):
        if name in call.fields:
            raise UnsupportedParameter(
                f"'{name}' is not something that {target.target_id} has: leave it out, or ask another model",
                param=name,
            )


_ABSENT = msgspec.Raw(b"null")
"""Of a member that need not be there: `Raw | None` is no type that msgspec decodes."""


class _Error(msgspec.Struct):
    message: str | None = None
    param: str | None = None


class _Refusal(msgspec.Struct):
    error: _Error | str | None = None
    message: str | None = None
    detail: msgspec.Raw = _ABSENT


encode = msgspec.json.Encoder().encode
_refusal = msgspec.json.Decoder(_Refusal)


def told(body: bytes) -> Told:
    """An error answer's words, whatever its shape."""
    try:
        found = _refusal.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Told(body[:_QUOTED].decode(errors="replace").strip())
    if isinstance(found.error, _Error):
        return Told(found.error.message or "", found.error.param)
    words = found.error or found.message
    if words is None and found.detail != _ABSENT:
        words = bytes(found.detail)[:_QUOTED].decode(errors="replace").strip('"')
    return Told(words if words is not None else body[:_QUOTED].decode(errors="replace").strip())
