"""Images: generation (JSON), edit and variation (forms with files); whole answers, or partial images as events.

Targets charge by tokens and tell them, or by the image, which is counted from the answer. What it does not know: I/O, money,
what is in a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from foundry.codecs import multipart
from foundry.codecs.base import JSON, Call, Meter, TargetFacts, UpstreamRequest
from foundry.codecs.event_meter import EventMeter
from foundry.codecs.fields import count, flag, model_name
from foundry.codecs.form_fields import form_flag, form_model
from foundry.codecs.media_usage import MediaUsage
from foundry.codecs.openai_media import MediaCodec, MediaLeg, refuse_unsupported, user_of
from foundry.errors import InvalidParameter
from foundry.types.deployment import Task
from foundry.types.usage import UsageCounts

_TASKS = frozenset({Task.IMAGE})
_ONE = UsageCounts(images=1)
_MAX_IMAGES = 128
"""Above any vendor's own bound (10); what limits reserve must stay finite."""


class _Answer(msgspec.Struct):
    data: list[msgspec.Raw] | None = None
    usage: MediaUsage | None = None
    svg_usage: MediaUsage | None = None
    """Charged besides `usage`."""


_answer = msgspec.json.Decoder(_Answer)


@dataclass(frozen=True, slots=True)
class ImageCodec(MediaCodec):
    """Generation: a JSON body."""

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody, UnsupportedMedia or InvalidParameter."""
        fields = self.members(body, content_type)
        images = count(fields, "n")
        return Call(
            model=model_name(fields),
            stream=flag(fields, "stream"),
            fields=fields,
            user=user_of(fields),
            estimated=UsageCounts(images=_in_bounds(images)),
        )


@dataclass(frozen=True, slots=True)
class ImageFormCodec(ImageCodec):
    """Edit and variation: a form with at least one picture, or for vendors that take links a JSON body."""

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody, UnsupportedMedia or InvalidParameter."""
        if content_type[:20].lower().startswith(JSON):
            return ImageCodec.parse(self, body, content_type)
        form = multipart.parse(body, content_type)
        form.require_file("image", "image[]")
        if ("prompt",) in self.required and not form.text("prompt"):
            raise InvalidParameter("'prompt' is required", param="prompt")
        return Call(
            model=form_model(form),
            stream=form_flag(form, "stream"),
            fields=form.fields(),
            user=form.text("user") or "",
            body=body,
            content_type=content_type,
            estimated=UsageCounts(images=_in_bounds(_number(form.text("n")))),
        )


@dataclass(frozen=True, slots=True)
class ImageLeg(MediaLeg):
    """To a target that has OpenAI's endpoint."""

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The body as it came, with the target's model."""
        if not call.body:
            return MediaLeg.request(self, call, target)
        refuse_unsupported(self.name, call, target)
        form = multipart.parse(call.body, call.content_type)
        changed = call.body if target.model == call.model else form.written({"model": target.model})
        return UpstreamRequest(self.path_at(target), changed, call.content_type)

    def counts(self, body: bytes) -> UsageCounts | None:
        """The tokens that were told, else the images that came."""
        try:
            answer = _answer.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        told = answer.usage.counts() if answer.usage else None
        besides = answer.svg_usage.counts() if answer.svg_usage else None
        if told is None:
            told = UsageCounts(images=len(answer.data)) if answer.data is not None else None
        return told + besides if told is not None and besides is not None else told

    def meter(self, call: Call) -> Meter:
        """Of events that end with as many finished images as were asked for."""
        wanted = call.estimated.images if call.estimated else 1
        return EventMeter(finals=wanted, per_final=_ONE)


def _number(text: str | None) -> int | None:
    if not text:
        return None
    digits = text.strip()
    if not digits.isdecimal():
        raise InvalidParameter(f"'n' must be a number of images, not {text[:40]!r}", param="n")
    return int(digits[:9])


def _in_bounds(images: int | None) -> int:
    if images is None:
        return 1
    if not 1 <= images <= _MAX_IMAGES:
        raise InvalidParameter(f"'n' must lie between 1 and {_MAX_IMAGES}, it is {images}", param="n")
    return images


IMAGE_CODECS: tuple[MediaCodec, ...] = (
    ImageCodec("image_generation", "/v1/images/generations", _TASKS, (("prompt",),)),
    ImageFormCodec("image_edit", "/v1/images/edits", _TASKS, (("prompt",),)),
    ImageFormCodec("image_variation", "/v1/images/variations", _TASKS),
)
IMAGE_LEGS: dict[str, MediaLeg] = {codec.name: ImageLeg(codec.name, codec.path) for codec in IMAGE_CODECS}
"""Codec to its leg over the wire "openai"."""
