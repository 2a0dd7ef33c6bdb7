"""The part of a request that is compared by meaning: the last thing that the user said, as text.

What it does not know: vectors, keys.
"""

from __future__ import annotations

import msgspec

from foundry.codecs.base import Call


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[_Part] | None = None


class Question(msgspec.Struct, frozen=True):
    """`text` is compared by meaning; the other parts of the member that it stands in must be equal."""

    member: str
    text: str
    rest: tuple[msgspec.Raw, ...]


_text = msgspec.json.Decoder(str)
_messages = msgspec.json.Decoder(list[msgspec.Raw])
_message = msgspec.json.Decoder(_Message)
_TEXT_PARTS = {"text", "input_text"}


def question_of(call: Call) -> Question | None:
    """None where there is no such text: the last turn is not the user's, or holds more than text."""
    for member in ("messages", "input", "prompt"):
        value = call.fields.get(member)
        if value is not None:
            try:
                return _read(member, value)
            except msgspec.DecodeError:
                return None
    return None


def _read(member: str, value: msgspec.Raw) -> Question | None:
    if bytes(value).lstrip()[:1] == b'"':
        return Question(member, _text.decode(value), ())
    turns = _messages.decode(value)
    last = _message.decode(turns[-1]) if turns else _Message()
    text = _plain(last.content)
    return Question(member, text, tuple(turns[:-1])) if last.role == "user" and text else None


def _plain(content: str | list[_Part] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if any(part.type not in _TEXT_PARTS for part in content):
        return ""
    return "\n".join(part.text for part in content)
