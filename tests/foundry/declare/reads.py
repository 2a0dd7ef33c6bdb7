"""Which fields of a model does product code read? By its syntax trees: an attribute of the field's name, in a module that knows the model.

A module knows a model when it imports it, or a model that holds it (a reader of `route.routing.retries.attempts` imports
`RouteEntry`), or a class of the product that wraps one of these (`CacheRule` around `CachePolicy`), at most twice over.
Modules that only carry a configuration along (the contracts, the file's checker, rows to contracts,
the command line) are no readers. What it cannot see: whether the value that is read changes anything.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from foundry.located import models_in

ROOT = Path(__file__).resolve().parents[3]
READERS = ("foundry/gateway", "foundry/providers", "foundry/pricing", "foundry/codecs", "foundry/metrics", "foundry/local",
           "foundry/engines", "foundry/catalog", "foundry/telemetry.py", "foundry/client.py", "foundry/settings.py", "serve_apps",
           "control_api")  # fmt: skip
WRAPPED = 2
CARRIERS = ("schemas.py", "control_api/routes/service.py", "control_api/gateway_config/")


@dataclass(frozen=True)
class Module:
    """What one module imports or defines, and the attributes that it reads."""

    path: str
    names: frozenset[str]
    reads: frozenset[str]
    classes: Mapping[str, frozenset[str]]
    """Its classes, and the names that their bodies mention."""


def modules(paths: Iterable[Path] | None = None) -> list[Module]:
    """The readers among the product's modules."""
    found = paths if paths is not None else _product()
    return [module_of(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in found]


def _product() -> Iterator[Path]:
    for reader in READERS:
        place = ROOT / reader
        yield from [place] if place.is_file() else sorted(place.rglob("*.py"))


def module_of(path: str, text: str) -> Module:
    """The names and reads of one module; none of its own when it is a carrier."""
    tree = ast.parse(text)
    names: set[str] = set()
    reads: set[str] = set()
    classes: dict[str, frozenset[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            classes[node.name] = frozenset(
                inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)
            )
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            reads.add(node.attr)
    carries = any(carrier in path for carrier in CARRIERS)
    if carries:
        return Module(path, frozenset(names), frozenset(), {})
    return Module(path, frozenset(names), frozenset(reads), classes)


@dataclass(frozen=True)
class Field:
    """A leaf of the file: a field that holds no further model."""

    path: str
    owners: tuple[str, ...]
    """Names of the models on the way to it, the nearest first: readers know one of them."""
    name: str


def fields(
    model: type[BaseModel], path: str, holders: tuple[str, ...], same: Mapping[str, tuple[str, ...]]
) -> Iterator[Field]:
    """Every leaf below a model. same: further names under which a model's fields are read, e.g. RouteWrite: RouteEntry."""
    owners = (model.__name__, *same.get(model.__name__, ()), *holders)
    for name, info in model.model_fields.items():
        inner = models_in(info.annotation)
        for one in inner:
            yield from fields(one, f"{path}.{name}", owners, same)
        if not inner:
            yield Field(f"{path}.{name}", owners, name)


def unread(wanted: Iterable[Field], readers: Iterable[Module]) -> set[str]:
    """Paths of the fields that no reader reads."""
    found = list(readers)
    wanted = list(wanted)
    wrapped = {owners: _with_wrappers(owners, found) for owners in {field.owners for field in wanted}}
    return {
        field.path
        for field in wanted
        if not any(field.name in module.reads and module.names & wrapped[field.owners] for module in found)
    }


def _with_wrappers(owners: tuple[str, ...], found: list[Module]) -> frozenset[str]:
    known = set(owners)
    for _hop in range(WRAPPED):
        known |= {name for module in found for name, mentions in module.classes.items() if mentions & known}
    return frozenset(known)
