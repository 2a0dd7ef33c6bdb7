"""TOML with places: a document's values, and the line and column of every key and value in it.

What it is: `parse` reads values with `tomllib` and places with tree-sitter's TOML grammar (tomllib knows none), and
`Problem` is one finding that says where it is. `problems_of` turns a pydantic error into all of its problems.
What it does not know: which keys there are (`settings.py`, `declare/`), or where the text came from.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

# Any: values of a TOML document, and annotations, which have no common type.

Path = tuple[str | int, ...]
"""Keys and indices from the root, e.g. ("routes", "chat", "targets", 0, "provider")."""
_AT = re.compile(
    r"^(?P<words>.*?) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.DOTALL
)
_BARE = re.compile(r"^[A-Za-z0-9_-]+$")
_SHOWN_CHARS = 80


@dataclass(frozen=True, order=True)
class Place:
    """Where something begins; both count from 1, columns in characters."""

    line: int = 1
    column: int = 1


@dataclass(frozen=True)
class Problem:
    """One finding about a document."""

    path: Path
    message: str
    """What is wrong, and what to do."""
    place: Place = Place()
    value: str = ""
    """The offending value as it would be written; empty when there is none."""
    severity: Literal["error", "warning"] = "error"

    @property
    def dotted(self) -> str:
        """The path as TOML writes it, e.g. `routes."a/b".targets[0].provider`."""
        return dotted(self.path)

    def render(self, origin: str) -> str:
        """One line: `foundry.toml:12:5: error: routes.chat.task = "chatt": ...`."""
        shown = f" = {self.value}" if self.value else ""
        subject = f"{self.dotted}{shown}: " if self.path else ""
        return f"{origin}:{self.place.line}:{self.place.column}: {self.severity}: {subject}{self.message}"


def dotted(path: Path) -> str:
    """A path as TOML writes it."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE.match(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{key}" if text else key
    return text


def shown(value: object) -> str:
    """A value in few characters, as TOML would write it. Tables and arrays are not repeated."""
    if isinstance(value, dict | list | tuple) or value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known are {', '.join(names)}" if names else "there are none"


@dataclass(frozen=True)
class Located:
    """A parsed document."""

    values: dict[str, Any]
    keys: Mapping[Path, Place] = field(default_factory=dict[Path, Place])
    """Where each key (for array elements: each element) begins."""
    places: Mapping[Path, Place] = field(default_factory=dict[Path, Place])
    """Where each value begins; a table's is its header's."""

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where the value (or the key) at a path is; the nearest table around it for what is not there."""
        first, second = (self.keys, self.places) if key else (self.places, self.keys)
        while path:
            found = first.get(path) or second.get(path)
            if found is not None:
                return found
            path = path[:-1]
        return Place()

    def problem(
        self, path: Path, message: str, *, key: bool = False, severity: Literal["error", "warning"] = "error"
    ) -> Problem:
        """A problem at a path, with its place and value."""
        value = "" if key else shown(self.value(path))
        return Problem(path, message, self.place(path, key=key), value, severity)

    def value(self, path: Path) -> object:
        """The value at a path; None when there is none."""
        current: Any = self.values
        for part in path:
            try:
                current = current[part]
            except (KeyError, IndexError, TypeError):
                return None
        return current


def parse(text: str) -> tuple[Located, Problem | None]:
    """The document; or an empty one and what is wrong with its syntax."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Located({}), _syntax_problem(str(error), text)
    keys, places = _Places().walk(text)
    return Located(values, keys, places), None


def _syntax_problem(words: str, text: str) -> Problem:
    match = _AT.match(words)
    if match is None:
        return Problem((), f"{words}: this is not TOML")
    lines = text.splitlines() or [""]
    line, column = match["line"], match["column"]
    place = Place(int(line), int(column)) if line else Place(len(lines), len(lines[-1]) + 1)
    return Problem((), f"{match['words']}: this is not TOML", place)


@cache
def _parser() -> Parser:
    import tree_sitter_toml  # noqa: PLC0415  only a file that has something to report pays for the grammar
    from tree_sitter import Language, Parser  # noqa: PLC0415  as above

    return Parser(Language(tree_sitter_toml.language()))


class _Places:
    """Walks a syntax tree of valid TOML and notes where everything is."""

    def __init__(self) -> None:
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self._last: dict[Path, int] = {}  # of each array of tables: the index of its newest element
        self._lines: list[bytes] = []

    def walk(self, text: str) -> tuple[dict[Path, Place], dict[Path, Place]]:
        data = text.encode()
        self._lines = data.split(b"\n")
        for node in _parser().parse(data).root_node.named_children:
            if node.type == "pair":
                self._pair((), node)
            elif node.type in {"table", "table_array_element"}:
                self._table(node)
        return self.keys, self.values

    def _table(self, node: Node) -> None:
        header, *pairs = [child for child in node.named_children if child.type != "comment"]
        path: Path = ()
        parts = list(self._parts(header))
        for number, (name, place) in enumerate(parts):
            path = (*path, name)
            self.keys.setdefault(path, place)
            self.values.setdefault(path, place)
            if node.type == "table_array_element" and number == len(parts) - 1:
                self._last[path] = self._last.get(path, -1) + 1
            if path in self._last:
                path = (*path, self._last[path])
                self.keys.setdefault(path, place)
                self.values.setdefault(path, place)
        for pair in pairs:
            self._pair(path, pair)

    def _pair(self, base: Path, node: Node) -> None:
        key, value = [child for child in node.named_children if child.type != "comment"][:2]
        path = base
        for name, place in self._parts(key):
            path = (*path, name)
            self.keys.setdefault(path, place)
        self._value(path, value)

    def _value(self, path: Path, node: Node) -> None:
        self.values[path] = self._place(node)
        inside = [child for child in node.named_children if child.type != "comment"]
        if node.type == "inline_table":
            for pair in inside:
                self._pair(path, pair)
        elif node.type == "array":
            for index, element in enumerate(inside):
                self._value((*path, index), element)

    def _parts(self, node: Node) -> Iterator[tuple[str, Place]]:
        if node.type == "dotted_key":
            for child in node.named_children:
                yield from self._parts(child)
            return
        text = (node.text or b"").decode()
        name = next(iter(tomllib.loads(f"{text} = 0"))) if node.type == "quoted_key" else text
        yield name, self._place(node)

    def _place(self, node: Node) -> Place:
        row, column = node.start_point
        return Place(row + 1, len(self._lines[row][:column].decode()) + 1)


# --- pydantic's errors as problems -----------------------------------------------------------------------------------


def problems_of(
    error: ValidationError,
    document: Located,
    base: Path,
    model: type[BaseModel],
    *,
    skip: tuple[str, ...] = (),
) -> list[Problem]:
    """Every problem of a validation error of the table at `base`, which `model` describes; unknown names get a suggestion.

    skip: fields of `model` that do not stand in the table, so that nothing can be said about them there.
    """
    items = [dict(item) for item in error.errors(include_url=False)]
    locations = [item["loc"] for item in items]
    return [
        _problem(item, document, base, model)
        for item in items
        if item["loc"] not in {(name,) for name in skip} and not _follows(item, locations)
    ]


def _follows(item: Mapping[str, Any], locations: list[Any]) -> bool:
    """Whether it is only said because elements below it were wrong ("should have at least 1 item")."""
    here = item["loc"]
    below = any(len(other) > len(here) and other[: len(here)] == here for other in locations)
    return item["type"] == "too_short" and below


def _problem(item: Mapping[str, Any], document: Located, base: Path, model: type[BaseModel]) -> Problem:
    kind, location = item["type"], item["loc"]
    left_out = kind == "missing" or (kind == "value_error" and location[-1:] in _fields(model))
    path = _in_document(location, document, base, missing=left_out)
    if kind == "extra_forbidden":
        known = field_names(model, location[:-1])
        return document.problem(path, f"unknown key; {did_you_mean(str(location[-1]), known)}", key=True)
    if kind == "missing":
        return document.problem(path, "is missing: add it", key=True)
    if kind in {"literal_error", "enum", "union_tag_invalid"}:
        context = item["ctx"]
        expected = str(context.get("expected") or context["expected_tags"])
        choices = expected.replace(" or ", ", ").replace("'", "").split(", ")
        if kind == "union_tag_invalid":
            path = (*path, str(context["discriminator"]).strip("'"))
        given = str(context.get("tag", item["input"]))
        return document.problem(path, f"is not one of them; {did_you_mean(given, choices)}")
    words = str(item["msg"]).removeprefix("Value error, ")
    return document.problem(path, f"{words[:1].lower()}{words[1:]}")


def _fields(model: type[BaseModel]) -> set[tuple[str | int, ...]]:
    """Where a default can be refused: it stands nowhere in the document."""
    return {(name,) for name in model.model_fields}


def _in_document(location: tuple[str | int, ...], document: Located, base: Path, *, missing: bool) -> Path:
    """pydantic's location without what is not in the document: the names of a union's members."""
    path = base
    current: Any = document.value(base)
    for number, part in enumerate(location):
        last = number == len(location) - 1
        try:
            inner = current[part]
        except (KeyError, IndexError, TypeError):
            if last and missing:
                path = (*path, part)
            continue
        if not last and not isinstance(inner, dict | list):
            continue  # a union's tag that is also the name of a key
        path, current = (*path, part), inner
    return path


def field_names(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Names of the fields that the table at a location may have."""
    kinds: list[type[BaseModel]] = [model]
    for part in location:
        kinds = [inner for kind in kinds for inner in _step(kind, part)] or kinds
    return sorted({name for kind in kinds for name in kind.model_fields})


def _step(kind: type[BaseModel], part: str | int) -> list[type[BaseModel]]:
    if isinstance(part, str) and part in kind.model_fields:
        return models_in(kind.model_fields[part].annotation)
    tags = [one for one in kind.model_fields.values() if part in get_args(one.annotation)]
    return [kind] if isinstance(part, int) or tags else []


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation: of unions, tuples, mappings and annotated types."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = get_origin(annotation)
    if origin is None or origin is Literal:
        return []
    inside = get_args(annotation)[:1] if origin is Annotated else get_args(annotation)
    if origin not in {Union, types.UnionType, Annotated, tuple, list, dict}:
        return []
    return [model for part in inside for model in models_in(part)]
