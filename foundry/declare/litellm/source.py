"""A YAML document that remembers lines and what was asked of it, so that nothing in it is dropped in silence.

What it does not know: what the keys mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from foundry.errors import ConfigurationError
from foundry.located import Path

# Any: values of a YAML document.


@dataclass(frozen=True, order=True)
class Remark:
    """One line of the report."""

    line: int
    path: str
    reason: str
    instead: str
    """What to do about it."""
    dropped: bool = True
    """False: it was taken over, with a difference worth knowing."""


class Source:
    """The document, its lines, and which of its leaves have been dealt with."""

    def __init__(self, text: str, origin: str = "config.yaml") -> None:
        loader = yaml.SafeLoader(text)
        self._lines: dict[Path, int] = {}
        self._leaves: dict[Path, int] = {}
        self._done: set[Path] = set()
        self._remarks: list[Remark] = []
        try:
            node = loader.get_single_node()
            self.values: Any = {} if node is None else self._read(loader, node, ())
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{origin} is not YAML: {error}", param=origin) from error
        if not isinstance(self.values, dict):
            raise ConfigurationError(
                f"{origin} is no LiteLLM configuration: it must be a mapping", param=origin
            )

    def _read(self, loader: yaml.SafeLoader, node: yaml.Node, path: Path) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.value:
            loader.flatten_mapping(node)
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(loader.construct_object(key_node))
                self._lines[(*path, key)] = key_node.start_mark.line + 1
                found[key] = self._read(loader, value_node, (*path, key))
            return found
        if isinstance(node, yaml.SequenceNode) and node.value:
            return [self._read(loader, inner, (*path, place)) for place, inner in enumerate(node.value)]
        self._leaves[path] = self._lines[path]
        return loader.construct_object(node, deep=True)

    def has(self, *path: str | int) -> bool:
        """Whether something is there; does not deal with it."""
        return path in self._lines

    def keys(self, *path: str | int) -> list[str]:
        """Keys of the mapping at a path; none when it is no mapping."""
        found = self._at(path)
        return list(found) if isinstance(found, dict) else []

    def places(self, *path: str | int) -> range:
        """Indices of the list at a path; none when it is no list."""
        found = self._at(path)
        return range(len(found)) if isinstance(found, list) else range(0)

    def peek(self, *path: str | int) -> Any:
        """The value at a path without dealing with it; None when there is none."""
        return self._at(path)

    def take(self, *path: str | int) -> Any:
        """The value at a path, which is dealt with from now on, with all that is below it."""
        self._done.update(leaf for leaf in self._leaves if leaf[: len(path)] == path)
        return self._at(path)

    def number(self, *path: str | int) -> float | None:
        """The number at a path, 0 or more, dealt with; None when there is none, and what is no such number is reported."""
        given = self.take(*path)
        if given is None:
            return None
        try:
            number = float(given) if isinstance(given, str | int | float) else -1.0
        except ValueError:
            number = -1.0
        if 0 <= number < float("inf"):
            return number
        self.drop(path, "it is no number here (variables are not read)", "write the number in our file")
        return None

    def note(self, path: Path, reason: str, instead: str) -> None:
        """It is taken over, with a difference."""
        self._say(path, reason, instead, dropped=False)

    def drop(self, path: Path, reason: str, instead: str) -> None:
        """It has no equivalent; all below it is dealt with by saying so."""
        self.take(*path)
        self._say(path, reason, instead, dropped=True)

    def left(self) -> Iterator[Path]:
        """Leaves that nobody has dealt with, in the document's order."""
        return iter([leaf for leaf in self._leaves if leaf not in self._done])

    @property
    def leaves(self) -> dict[Path, int]:
        """Every leaf and its line."""
        return dict(self._leaves)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """The report so far, by line."""
        return tuple(sorted(set(self._remarks)))

    def _say(self, path: Path, reason: str, instead: str, *, dropped: bool) -> None:
        while path and path not in self._lines:
            path = path[:-1]
        shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        self._remarks.append(Remark(self._lines.get(path, 1), shown, reason, instead, dropped))

    def _at(self, path: Path) -> Any:
        current: Any = self.values
        for part in path:
            try:
                current = current[part]
            except (KeyError, IndexError, TypeError):
                return None
        return current
