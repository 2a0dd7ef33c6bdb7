"""Writes tables as TOML: entries under headers, what is small inline. What it does not know: what the tables mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

_BARE = re.compile(r"^[A-Za-z0-9_-]+$")
_INLINE_CHARS = 110
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def key(name: str) -> str:
    """A key, quoted where it must be."""
    return name if _BARE.match(name) else string(name)


def string(text: str) -> str:
    """A basic string."""
    escaped = "".join(
        _ESCAPES.get(char) or (char if char.isprintable() else f"\\U{ord(char):08X}") for char in text
    )
    return f'"{escaped}"'


def value(given: object) -> str:
    """A value on one line. None has no form in TOML: leave such keys out. Raises TypeError for what TOML cannot say."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, str):
        return string(given)
    if isinstance(given, Decimal):
        return f"{given.normalize():f}"
    if isinstance(given, int | float):
        return str(given)
    if isinstance(given, Mapping):
        inside = ", ".join(f"{key(name)} = {value(inner)}" for name, inner in given.items())
        return "{ " + inside + " }" if inside else "{}"
    if isinstance(given, Sequence):
        return "[" + ", ".join(value(inner) for inner in given) + "]"
    raise TypeError(f"TOML has no form for {given!r}")


def entry(path: Sequence[str], content: Mapping[str, object]) -> str:
    """`[path]` with its keys; arrays of tables that do not fit on a line get `[[path.name]]`, each in turn."""
    header = ".".join(key(part) for part in path)
    lines = [f"[{header}]"]
    later: list[str] = []
    for name, inner in content.items():
        line = f"{key(name)} = {value(inner)}"
        if len(line) <= _INLINE_CHARS or not _is_tables(inner):
            lines.append(line)
            continue
        later += [f"\n[[{header}.{key(name)}]]\n" + _pairs(table) for table in _tables(inner)]
    return "\n".join(lines) + "\n" + "".join(later)


def _is_tables(given: object) -> bool:
    return isinstance(given, list) and len(_tables(given)) == len(given)


def _tables(given: object) -> list[Mapping[str, object]]:
    return [inner for inner in given if isinstance(inner, Mapping)] if isinstance(given, list) else []


def _pairs(table: Mapping[str, object]) -> str:
    return "".join(f"{key(name)} = {value(inner)}\n" for name, inner in table.items())
