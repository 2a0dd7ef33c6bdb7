"""A JSON body as its top-level members, values as the bytes that the caller sent; for the codecs of every modality.

What it does not know: any protocol's members.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from foundry.codecs.base import JSON, Call, TargetFacts
from foundry.errors import InvalidParameter, MalformedBody, UnsupportedMedia, UnsupportedParameter

T = TypeVar("T")
Members = dict[str, msgspec.Raw]

STRING = msgspec.json.Decoder(str)
FLAG = msgspec.json.Decoder(bool | None)
COUNT = msgspec.json.Decoder(int | None)
UNSUPPORTED = "unsupported."
"""`TargetFacts.options["unsupported.<codec>"]`: names of parameters that the target is known to lack, with commas between."""
_members = msgspec.json.Decoder(Members)
_encoder = msgspec.json.Encoder()


def split(body: bytes, content_type: str) -> Members:
    """Body to members. Raises UnsupportedMedia for a form, MalformedBody for anything but a JSON object."""
    if content_type.startswith(("multipart/", "application/x-www-form-urlencoded")):
        raise UnsupportedMedia(f"this endpoint reads {JSON}, not {content_type.partition(';')[0]}")
    try:
        return _members.decode(body)
    except msgspec.ValidationError as error:
        raise MalformedBody("the body must be a JSON object") from error
    except RecursionError as error:
        raise MalformedBody("the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body is not valid JSON: {error}") from error


def member(fields: Members, name: str, decoder: msgspec.json.Decoder[T], expected: str) -> T | None:
    """One member's value, None when it is absent. Raises InvalidParameter when it is not what is expected."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"'{name}' must be {expected}", param=name) from error


def model_of(fields: Members) -> str:
    """The model. Raises InvalidParameter when it is missing, empty or no string."""
    model = member(fields, "model", STRING, "a string: the name of a model, see GET /v1/models")
    if not model:
        raise InvalidParameter("'model' is required: name one of GET /v1/models", param="model")
    return model


def user_of(fields: Members) -> str:
    """The end user that the caller names, or ''. A wrong type is the target's to refuse."""
    for name in ("safety_identifier", "user"):
        raw = fields.get(name)
        if raw is not None and bytes(raw[:1]) == b'"':
            return member(fields, name, STRING, "a string") or ""
    return ""


def encode(value: object) -> bytes:
    """Compact JSON."""
    return _encoder.encode(value)


def renamed(call: Call, target: TargetFacts) -> bytes:
    """The body for the target: model renamed, all else as it came."""
    if target.model == call.model and "model" in call.fields:
        return _encoder.encode(call.fields)
    return _encoder.encode({**call.fields, "model": msgspec.Raw(_encoder.encode(target.model))})


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
