"""A JSON body as its top-level members, values left as the bytes that came, and typed looks at single members.

What it does not know: any protocol.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

from foundry.errors import InvalidParameter, MalformedBody

T = TypeVar("T")

RAW_NULL, RAW_TRUE, RAW_FALSE = msgspec.Raw(b"null"), msgspec.Raw(b"true"), msgspec.Raw(b"false")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)
_flag = msgspec.json.Decoder(bool | None)
_encoder = msgspec.json.Encoder()


def split(body: bytes) -> dict[str, msgspec.Raw]:
    """Top-level members. Raises MalformedBody."""
    try:
        return _members.decode(body)
    except msgspec.ValidationError as error:
        raise MalformedBody("the body must be a JSON object") from error
    except RecursionError as error:
        raise MalformedBody("the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body is not valid JSON: {error}") from error


def member(
    fields: dict[str, msgspec.Raw], name: str, decoder: msgspec.json.Decoder[T], expected: str
) -> T | None:
    """One member, or None when it is absent or null. Raises InvalidParameter, which says what was expected."""
    raw = fields.get(name)
    if raw is None or raw == RAW_NULL:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"'{name}' must be {expected}: {error}", param=name) from error


def model_of(fields: dict[str, msgspec.Raw]) -> str:
    """The public model name. Raises InvalidParameter."""
    model = member(fields, "model", _string, "a string: the name of a model, see GET /v1/models")
    if not model:
        raise InvalidParameter("'model' is required: name one of GET /v1/models", param="model")
    return model


def flag_of(fields: dict[str, msgspec.Raw], name: str) -> bool | None:
    """A flag. Raises InvalidParameter."""
    return member(fields, name, _flag, "true or false")


def raw(value: object) -> msgspec.Raw:
    """A value as JSON."""
    return msgspec.Raw(_encoder.encode(value))


def others(fields: dict[str, msgspec.Raw], known: Collection[str]) -> dict[str, msgspec.Raw]:
    """Members that are not among the known ones; null members count as absent."""
    return {name: value for name, value in fields.items() if name not in known and value != RAW_NULL}
