"""What dialects need to take a request's members apart, beside `fields.py`: null counts as absent, nested values are typed.

What it does not know: any protocol's members.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

from foundry.errors import InvalidParameter

T = TypeVar("T")
Fields = dict[str, msgspec.Raw]

NULL, TRUE, FALSE = msgspec.Raw(b"null"), msgspec.Raw(b"true"), msgspec.Raw(b"false")
_encoder = msgspec.json.Encoder()
_float = msgspec.json.Decoder(float)
_int = msgspec.json.Decoder(int)
_flag = msgspec.json.Decoder(bool)
_string = msgspec.json.Decoder(str)


def raw(value: object) -> msgspec.Raw:
    """A value as JSON."""
    return msgspec.Raw(_encoder.encode(value))


def typed(raw_value: msgspec.Raw, decoder: msgspec.json.Decoder[T], name: str) -> T:
    """A value of a known type. Raises InvalidParameter with the place of what is wrong, e.g. `messages[2].content`."""
    try:
        return decoder.decode(raw_value)
    except RecursionError as error:
        raise InvalidParameter(f"'{name}' is nested too deeply", param=name) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        words = str(error).replace("`$", f"`{name}")
        raise InvalidParameter(f"'{name}' cannot be read: {words}", param=name) from error


def optional(fields: Fields, name: str, decoder: msgspec.json.Decoder[T]) -> T | None:
    """One member, None when absent or null. Raises InvalidParameter."""
    value = fields.get(name)
    return None if value is None or value == NULL else typed(value, decoder, name)


def number(fields: Fields, name: str) -> float | None:
    """A number. Raises InvalidParameter."""
    return optional(fields, name, _float)


def whole(fields: Fields, name: str) -> int | None:
    """A whole number. Raises InvalidParameter."""
    return optional(fields, name, _int)


def maybe(fields: Fields, name: str) -> bool | None:
    """True, false, or None when nothing was said. Raises InvalidParameter."""
    return optional(fields, name, _flag)


def string(fields: Fields, name: str) -> str | None:
    """A string. Raises InvalidParameter."""
    return optional(fields, name, _string)


def others(fields: Fields, known: Collection[str]) -> Fields:
    """Members that are not among the known ones and not null."""
    return {name: value for name, value in fields.items() if name not in known and value != NULL}


def is_json_object(text: str) -> bool:
    """Whether a text is one JSON object."""
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
