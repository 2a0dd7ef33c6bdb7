"""What a hostile or broken client makes of a valid request: one change, or a few, drawn from a seeded generator.

What it does not know: endpoints, the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

Json = Any  # any JSON value
ODD: tuple[Json, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 2**31, 2**53 + 1, -(2**63), 2**64, 10**40, "", " ", "x", "\x00", "\ud800",
    "é" * 50, "NaN", "true", "12", [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [0] * 50, {"type": "nothing"},
    {"type": "text"}, {"type": "text", "text": None}, [{"type": []}], [{}], [{"role": "user"}], "data:,", "data:image/png;base64,%%%",
    "http://[", "function", "auto", "assistant", "tool",
)  # fmt: skip
RAW: tuple[bytes, ...] = (
    b"", b"{", b"[", b"null", b"{}", b"[]", b'""', b"0", b"NaN", b"Infinity", b"-", b"1e999", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf{}",
    b"[" * 2000, b'{"a":' * 2000, b'{"model":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"model":"\\ud800"}', b'{"model":"\xed\xa0\x80"}',
    b'{"a":1}{"b":2}', b"{'model': 1}", b'{"model":1e999999}', b'{"model":"x",}', b"{" + b" " * 5000 + b"}",
)  # fmt: skip
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b""), (b"content-type", b"text/plain"), (b"content-type", b"application/json; charset=\xff"),
    (b"content-type", b"multipart/form-data"), (b"content-type", b"multipart/form-data; boundary="),
    (b"content-type", b'multipart/form-data; boundary="' + b"x" * 300 + b'"'), (b"content-type", b"multipart/mixed; boundary=a"),
    (b"content-length", b"-1"), (b"content-length", b"99999999999999"), (b"content-length", b"\xb2"), (b"content-length", b"9" * 5000),
    (b"content-encoding", b"gzip"), (b"authorization", b""), (b"authorization", b"Bearer"), (b"authorization", b"Bearer \xff\xfe"),
    (b"authorization", b"Basic eDp5"), (b"authorization", b"Bearer " + b"x" * 9000), (b"x-api-key", b"\x00"), (b"\xff\xfe", b"\xff"),
    (b"x-request-id", b"\xff"), (b"x-request-id", b"a b"), (b"x-request-id", b"x" * 4000), (b"prefer", b"wait=\xff, respond-async"),
    (b"prefer", b"wait=" + b"9" * 5000), (b"x-foundry-wait", b"-1"), (b"accept", b"\x00"), (b"user-agent", b"\xf0"), (b"host", b""),
    (b"x-forwarded-for", b"999.1.1.1, \xff, ::"), (b"cookie", b"a" * 9000),
    (b"transfer-encoding", b"chunked"), (b"cache-control", b"no-store, \xff"),
    (b"range", b"bytes=9-1"), (b"if-none-match", b"*"), (b"anthropic-version", b"\xff"), (b"anthropic-beta", b"," * 500),
)  # fmt: skip
QUERIES: tuple[bytes, ...] = (
    b"limit=0", b"limit=-1", b"limit=999999999999999999999", b"limit=\xb2", b"limit=%C2%B2", b"order=x", b"after=%00", b"after=../..",
    b"after=%ff", b"&&&=&=", b"limit", b"%", b"a" * 9000, b"purpose=%ud800", b"purpose=\xff", b"include[]=x&include[]=y", b"stream=maybe",
    b"starting_after=-1", b"starting_after=99999999999999999999999",
)  # fmt: skip
IDS: tuple[str, ...] = (
    "x", "%00", "..", "%2e%2e", "%2F", "a/b", "\x00", "%ff", "é", "x" * 5000, "file_0193e4c5a7b2f1d0", "resp_0193e4c5a7b2f1d0",
    "batch_0193e4c5a7b2f1d0", "file-", " ", "?", "#", "%", "%zz", "~", "own-ok", "..%2f..%2fsecrets%2fkey_pepper", "CON", "-", ".",
)  # fmt: skip


def paths_of(value: Json, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside, itself included."""
    found = [here]
    if isinstance(value, dict):
        for key, one in value.items():
            found += paths_of(one, (*here, key))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            found += paths_of(one, (*here, place))
    return found


def replaced(value: Json, path: tuple[Any, ...], new: Json) -> Json:
    """A copy with another value at the end of the path."""
    if not path:
        return new
    if isinstance(value, dict):
        return {key: replaced(one, path[1:], new) if key == path[0] else one for key, one in value.items()}
    return [replaced(one, path[1:], new) if place == path[0] else one for place, one in enumerate(value)]


def swap(random: Random, value: Json) -> Json:
    """Another value at a random place, a member more, or one less."""
    path = random.choice(paths_of(value)[1:] or [()])
    kind = random.randrange(8)
    if kind == 0 and path and isinstance(_at(value, path[:-1]), dict):
        parent = _at(value, path[:-1])
        return replaced(value, path[:-1], {key: one for key, one in parent.items() if key != path[-1]})
    if kind == 1:
        return replaced(value, path, [_at(value, path)])
    if kind == 2:
        return replaced(value, path, {"type": _at(value, path)})
    if kind == 3:
        return replaced(
            value, path, random.choice(ODD[:-1]) if random.random() < 0.5 else json.dumps(_at(value, path))
        )
    return replaced(value, path, random.choice(ODD))


def _at(value: Json, path: tuple[Any, ...]) -> Json:
    for step in path:
        value = value[step]
    return value


def dumped(value: Json) -> bytes:
    """As text; lone surrogates go out escaped, or as the bytes that no decoder should take."""
    return json.dumps(value).encode()


def nest(random: Random, value: Json) -> bytes:
    """A random value so deep that a recursive reader falls over."""
    depth = random.choice((50, 200, 900, 1100, 20_000))
    mark = "\u0007deep\u0007"
    text = dumped(replaced(value, random.choice(paths_of(value)[1:] or [()]), mark))
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"text":', b"}]")))
    return text.replace(json.dumps(mark).encode(), opening * depth + b"1" + closing * depth)


def twice(random: Random, value: Json) -> bytes:
    """A member that stands there twice, with two values."""
    if not isinstance(value, dict) or not value:
        return dumped([value, value])
    key = str(random.choice(list(value)))
    return dumped(value)[:-1] + b"," + dumped(key) + b":" + dumped(random.choice(ODD)) + b"}"


def flip(random: Random, data: bytes) -> bytes:
    """Some bytes are others."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        if out:
            out[random.randrange(len(out))] = random.randrange(256)
    return bytes(out)


def cut(random: Random, data: bytes) -> bytes:
    """The beginning only, or a hole in the middle."""
    if not data:
        return data
    first = random.randrange(len(data))
    return data[:first] + (data[random.randrange(first, len(data)) :] if random.random() < 0.4 else b"")


def stuff(random: Random, data: bytes) -> bytes:
    """Something foreign put in."""
    place = random.randint(0, len(data))
    return (
        data[:place]
        + random.choice((b"\x00", b"\xff", b"\xed\xa0\x80", b"\r\n--", b'"', b"\\u", b"}", b"1" * 5000))
        + data[place:]
    )


def bytes_of(random: Random, data: bytes) -> bytes:
    """One change to raw bytes."""
    change: Callable[[Random, bytes], bytes] = random.choice((flip, cut, stuff))
    return change(random, data)


def json_of(random: Random, value: Json) -> bytes:
    """One change, or a few, to a JSON value."""
    kind = random.randrange(20)
    if kind == 0:
        return random.choice(RAW)
    if kind == 1:
        return nest(random, value)
    if kind == 2:
        return twice(random, value)
    if kind <= 5:
        return bytes_of(random, dumped(value))
    for _ in range(random.randint(1, 3)):
        value = swap(random, value)
    return dumped(value)


def pieces_of(random: Random, data: bytes) -> tuple[bytes, ...]:
    """The same bytes as they may arrive, empty pieces included."""
    if random.random() < 0.7:
        return (data,)
    places = sorted(random.randint(0, len(data)) for _ in range(random.randint(1, 4)))
    return tuple(data[start:end] for start, end in zip((0, *places), (*places, len(data)), strict=True))
