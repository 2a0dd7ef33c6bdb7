"""What replays of all protocols need: JSON objects of unknown members, events of a stream, text in pieces.

What it does not know: any protocol's members.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from foundry.codecs.sse import SseSplitter

Object = dict[str, object]
PIECE_CHARS = 48
"""Characters of text in one event of a replayed stream: some words."""
_object = msgspec.json.Decoder(Object)
_encoder = msgspec.json.Encoder()


def encode(value: object) -> bytes:
    """A value as JSON."""
    return _encoder.encode(value)


def read_object(data: bytes) -> Object | None:
    """A JSON object; None when it is none."""
    try:
        return _object.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def events_of(stream: bytes) -> list[bytes]:
    """The data of all events of a whole stream."""
    splitter = SseSplitter()
    return [*splitter.feed(stream), *splitter.close()]


def members(value: object) -> Object:
    """An object's members; none of anything else."""
    return {str(name): held for name, held in value.items()} if isinstance(value, dict) else {}


def objects(value: object) -> list[Object]:
    """The objects in a list; none of anything else."""
    return [members(held) for held in value if isinstance(held, dict)] if isinstance(value, list) else []


def text_of(value: object) -> str:
    """A text; empty for anything else."""
    return value if isinstance(value, str) else ""


def number_of(value: object) -> int:
    """A whole number; 0 for anything else."""
    return value if isinstance(value, int) else 0


def pieces(text: str) -> Iterator[str]:
    """A text as a stream would have brought it."""
    for start in range(0, len(text), PIECE_CHARS):
        yield text[start : start + PIECE_CHARS]


def joined(earlier: object, later: object) -> object:
    """Two values of one member of a delta: texts and lists go on, anything else is replaced."""
    if isinstance(earlier, str) and isinstance(later, str):
        return earlier + later
    if isinstance(earlier, list) and isinstance(later, list):
        return [*earlier, *later]
    if isinstance(earlier, dict) and isinstance(later, dict):
        return merged(members(earlier), members(later))
    return earlier if later is None else later


def merged(earlier: Object, later: Object) -> Object:
    """Two objects, member by member as in `joined`."""
    whole = dict(earlier)
    for name, value in later.items():
        whole[name] = joined(whole[name], value) if name in whole else value
    return whole
