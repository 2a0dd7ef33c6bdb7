"""`check`: a whole `foundry.toml`, every problem in it, each with its line and column.

First the syntax, then the settings part, then each entry by itself, then what holds between them (`rules.py`). An entry
that is wrong by itself still counts as known, so that one slip gives one problem. What it does not know: who applies it.

    foundry gateway check foundry.toml
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from foundry import settings
from foundry.declare import rules
from foundry.declare.model import (
    GatewayFile,
    ProviderName,
    ProviderRow,
    named,
    route_from_table,
)
from foundry.declare.rules import Deployed, Finding, World
from foundry.located import Located, Path, Problem, parse, problems_of
from foundry.pricing.book import PriceRow
from foundry.providers.vendors import Vendor, over_shipped, vendors
from foundry.types.control import NounName, RouteName, RouteWrite
from foundry.types.deployment import Task
from foundry.types.guardrails import BlockRule, GuardEntry, GuardrailProfile
from foundry.types.limits import LimitEntry

# Any: tables of a TOML document.

Entry = TypeVar("Entry", bound=BaseModel)
Prepare = Callable[[str, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Checked:
    """A file after its check."""

    gateway: GatewayFile
    """What could be read of the gateway's part; whole and right when `ok`."""
    settings: dict[str, object]
    """The settings part, as written."""
    problems: tuple[Problem, ...]
    """By line."""

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings may be."""
        return not self.errors

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep the file from being applied."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def check(text: str, *, deployments: Mapping[str, Deployed] | None = None) -> Checked:
    """Check a file's text. deployments: those that exist; None: not known, nothing said."""
    document, broken = parse(text)
    if broken is not None:
        return Checked(GatewayFile(), {}, (broken,))
    return _Checker(document, deployments).run()


class _Checker:
    """One run over one document."""

    def __init__(self, document: Located, deployments: Mapping[str, Deployed] | None) -> None:
        self._document = document
        self._deployments = deployments
        self._problems: list[Problem] = []

    def run(self) -> Checked:
        self._problems += settings.problems(self._document)
        gateway = GatewayFile.model_construct(
            providers=self._providers(),
            routes=self._entries(
                "routes", RouteName, RouteWrite, lambda _name, table: route_from_table(table)
            ),
            limits=self._entries("limits", NounName, LimitEntry, named),
            guardrails=self._entries("guardrails", NounName, GuardrailProfile, named),
            blocks=self._entries("blocks", NounName, BlockRule, named),
            prices=self._prices(),
        )
        self._cross_check(gateway)
        written = settings.settings_part(self._document.values)
        unique = {(problem.path, problem.message): problem for problem in self._problems}
        ordered = sorted(
            unique.values(), key=lambda problem: (problem.place, problem.path and str(problem.path))
        )
        return Checked(gateway, written, tuple(ordered))

    def _say(self, path: Path, words: str, *, key: bool = False) -> None:
        self._problems.append(self._document.problem(path, words, key=key))

    def _tables(self, table: str, name_kind: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        found = self._document.values.get(table, {})
        if not isinstance(found, dict):
            self._say((table,), f"must be tables: [{table}.NAME]")
            return
        for name, entry in found.items():
            try:
                TypeAdapter(name_kind).validate_python(name)
            except ValidationError as error:
                self._say((table, name), f"is no name: {error.errors()[0]['msg']}", key=True)
            if isinstance(entry, dict):
                yield name, entry
            else:
                self._say((table, name), f"must be a table: [{table}.{name}]")

    def _entries(self, table: str, name_kind: Any, model: type[Entry], prepare: Prepare) -> dict[str, Entry]:
        read: dict[str, Entry] = {}
        for name, entry in self._tables(table, name_kind):
            path = (table, name)
            if prepare is named and "name" in entry:
                self._say((*path, "name"), "unknown key; the table's name is its name", key=True)
            try:
                read[name] = model.model_validate(prepare(name, entry))
            except ValidationError as error:
                skip = ("name",) if prepare is named else ()
                self._problems += problems_of(error, self._document, path, model, skip=skip)
        return read

    def _providers(self) -> dict[str, ProviderRow]:
        read: dict[str, ProviderRow] = {}
        for name, row in self._tables("providers", ProviderName):
            read[name] = row
            try:
                Vendor.model_validate(over_shipped(name, row))
            except ValidationError as error:
                self._problems += problems_of(error, self._document, ("providers", name), Vendor)
        return read

    def _prices(self) -> tuple[PriceRow, ...]:
        rows = self._document.values.get("prices", [])
        if not isinstance(rows, list):
            self._say(("prices",), "must be an array of tables: [[prices]]")
            return ()
        read: list[PriceRow] = []
        for place, row in enumerate(rows):
            try:
                read.append(PriceRow.model_validate(row))
            except ValidationError as error:
                self._problems += problems_of(error, self._document, ("prices", place), PriceRow)
        return tuple(read)

    # --- between entries ---------------------------------------------------------------------------------------------

    def _names(self, table: str) -> set[str]:
        found = self._document.values.get(table, {})
        return set(found) if isinstance(found, dict) else set()

    def _world(self, gateway: GatewayFile) -> World:
        unread = {name: _stand_in(self._document.value(("routes", name))) for name in self._names("routes")}
        written = self._document.value(("gateway", "country_database"))
        return World(
            routes={**unread, **gateway.routes},
            profiles=self._names("guardrails"),
            providers=set(vendors()) | self._names("providers"),
            deployments=self._deployments,
            countries=written is not None or "country_database" not in settings.GatewaySettings.model_fields,
            check_guard=guard_check(),
        )

    def _cross_check(self, gateway: GatewayFile) -> None:
        world = self._world(gateway)
        for name, route in gateway.routes.items():
            self._found(("routes", name), rules.route(name, route, world))
        for name, limit in gateway.limits.items():
            self._found(("limits", name), rules.limit(limit, world))
        for name, profile in gateway.guardrails.items():
            self._found(("guardrails", name), rules.guardrail(profile, world))
        for name, block in gateway.blocks.items():
            self._found(("blocks", name), rules.block(block, world))
        for name, finding in rules.cycles(gateway.routes):
            self._found(("routes", name), [finding])
        self._check_prices(gateway, world)

    def _found(self, base: Path, findings: Iterator[Finding] | list[Finding]) -> None:
        for one in findings:
            self._problems.append(
                self._document.problem((*base, *one.path), one.message, severity=one.severity)
            )

    def _check_prices(self, gateway: GatewayFile, world: World) -> None:
        first: dict[tuple[str, str], int] = {}
        for place, row in enumerate(gateway.prices):
            seen = first.setdefault((row.provider, row.model), place)
            if seen != place:
                self._say(
                    ("prices", place), f"prices {row.provider}/{row.model} again: row {seen + 1} does already"
                )
            if row.provider not in world.providers:
                self._found(("prices", place), [rules.unknown_provider(("provider",), row.provider, world)])


def _stand_in(table: object) -> RouteWrite:
    """A route that could not be read, as far as others refer to it."""
    wanted = table.get("task", Task.GENERATE) if isinstance(table, dict) else Task.GENERATE
    task = Task(wanted) if isinstance(wanted, str) and wanted in set(Task) else Task.GENERATE
    return RouteWrite.model_construct(task=task, targets=())


def guard_check() -> Callable[[GuardEntry], object] | None:
    """The registry of guards' own check of one entry, imported late because it imports every guard; None: no guards here."""
    name = "foundry.gateway.guardrails.registry"
    if find_spec(name.rpartition(".")[0]) is None:
        return None
    found: Callable[[GuardEntry], object] = import_module(name).check_entry
    return found
