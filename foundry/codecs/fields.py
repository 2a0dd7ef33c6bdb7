"""JSON bodies as top-level members whose values stay raw bytes: nothing that only passes through is parsed or written again.

What it does not know: any protocol's members.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from foundry.errors import InvalidParameter, MalformedBody

T = TypeVar("T")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)
_flag = msgspec.json.Decoder(bool | None)
_count = msgspec.json.Decoder(int | None)
_text = msgspec.json.Decoder(str | None)


def split(body: bytes) -> dict[str, msgspec.Raw]:
    """The members of a JSON object. Raises MalformedBody."""
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
    """One member's value, None when it is missing. Raises InvalidParameter that says what was expected."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except RecursionError as error:
        raise InvalidParameter(f"'{name}' is nested too deeply", param=name) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"'{name}' must be {expected}", param=name) from error


def model_name(fields: dict[str, msgspec.Raw]) -> str:
    """The member `model`. Raises InvalidParameter."""
    name = member(fields, "model", _string, "a string: the name of a model, see GET /v1/models")
    if not name:
        raise InvalidParameter("'model' is required: name one of GET /v1/models", param="model")
    return name


def flag(fields: dict[str, msgspec.Raw], name: str) -> bool:
    """A true or false member; False when missing or null. Raises InvalidParameter."""
    return name in fields and bool(member(fields, name, _flag, "true or false"))


def count(fields: dict[str, msgspec.Raw], name: str) -> int | None:
    """A whole number of at least zero, or None when missing or null. Raises InvalidParameter."""
    if name not in fields:
        return None
    value = member(fields, name, _count, "a whole number")
    if value is not None and value < 0:
        raise InvalidParameter(f"'{name}' must be at least 0, not {value}", param=name)
    return value


def text(fields: dict[str, msgspec.Raw], name: str) -> str:
    """A string member; empty when missing or null. Raises InvalidParameter."""
    return (member(fields, name, _text, "a string") or "") if name in fields else ""
