"""What holds between the parts of a gateway's configuration, whoever wrote them: the file's checker and the control API ask here.

Each function yields findings about one entry; paths are relative to it. `World` is what the entry's names can refer to.
What it does not know: places in a file, databases, HTTP.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import re2

from foundry.errors import ConfigurationError
from foundry.located import Path, did_you_mean
from foundry.types.control import EngineTargetSpec, RouteWrite, TargetSpec
from foundry.types.deployment import Task
from foundry.types.guardrails import BlockRule, GuardEntry, GuardrailProfile
from foundry.types.limits import LimitEntry

_COUNTRY = re.compile(r"^[A-Z]{2}$")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with an entry, or worth a warning."""

    path: Path
    message: str
    severity: Literal["error", "warning"] = "error"


class Deployed(NamedTuple):
    """What a route must know of a deployment."""

    task: Task
    adapters: Collection[str] = ()


@dataclass(frozen=True)
class World:
    """What names may refer to."""

    routes: Mapping[str, RouteWrite] = field(default_factory=dict[str, RouteWrite])
    profiles: Collection[str] = ()
    providers: Collection[str] = ()
    deployments: Mapping[str, Deployed] | None = None
    """None: not known here, so nothing is said about them."""
    countries: bool = True
    """Whether a country database is configured."""
    check_guard: Callable[[GuardEntry], object] | None = None
    """Raises ConfigurationError for a guard that could not work, with the field in `param`; None: not asked."""


def route(name: str, entry: RouteWrite, world: World) -> Iterator[Finding]:
    """Everything about one route but cycles."""
    for place, target in enumerate(entry.targets):
        yield from _target(place, target, entry.task, world)
    yield from _shares(entry)
    yield from profiles(entry.guardrails, world)
    for place, other in enumerate(entry.routing.fallbacks):
        yield from _other_route(("routing", "fallbacks", place), name, other, entry.task, world)
    if entry.routing.hold.overflow_route is not None:
        path = ("routing", "hold", "overflow_route")
        yield from _other_route(path, name, entry.routing.hold.overflow_route, entry.task, world)
    if entry.cache is not None and entry.cache.semantic is not None:
        path = ("cache", "semantic", "embedding_route")
        yield from _other_route(path, name, entry.cache.semantic.embedding_route, Task.EMBED, world)


def profiles(names: Collection[str], world: World, path: Path = ("guardrails",)) -> Iterator[Finding]:
    """Guardrail profiles that a route or a key names."""
    for place, name in enumerate(names):
        if name not in world.profiles:
            words = f"no guardrail profile '{name}'; {did_you_mean(name, world.profiles)}"
            yield Finding((*path, place), words)


def limit(entry: LimitEntry, world: World) -> Iterator[Finding]:
    """What a limit names."""
    yield from _known_routes(("routes",), entry.routes, world)
    if entry.scope == "route":
        yield from _known_routes(("subjects",), entry.subjects, world)


def guardrail(entry: GuardrailProfile, world: World) -> Iterator[Finding]:
    """Everything about one profile."""
    if not entry.guards:
        yield Finding(("guards",), "a profile without guards guards nothing: add [[guardrails.NAME.guards]]")
    for place, guard in enumerate(entry.guards):
        if not guard.stages:
            yield Finding(("guards", place, "stages"), "name at least one of input, output, stream")
        try:
            if world.check_guard is not None:
                world.check_guard(guard)
        except ConfigurationError as error:
            yield Finding(("guards", place, *_field_of_guard(error.param)), error.message)
        asked = guard.options.get("route")
        if isinstance(asked, str) and asked not in world.routes:
            yield Finding(("guards", place, "options", "route"), _no_route(asked, world))


def _field_of_guard(param: str | None) -> Path:
    """A guard's error names a field of the entry, or an option of its kind."""
    if param is None or param in GuardEntry.model_fields:
        return () if param is None else (param,)
    return ("options", *param.split("."))


def block(entry: BlockRule, world: World) -> Iterator[Finding]:
    """Everything about one blocking rule."""
    if not (entry.cidrs or entry.countries or entry.user_agent):
        yield Finding((), "has no condition: give cidrs, countries or user_agent")
    for place, cidr in enumerate(entry.cidrs):
        try:
            ipaddress.ip_network(cidr)
        except ValueError as error:
            yield Finding(("cidrs", place), f'no network: {error}; write e.g. "10.0.0.0/8"')
    for place, country in enumerate(entry.countries):
        if not _COUNTRY.match(country):
            yield Finding(("countries", place), 'no ISO 3166 code: two capital letters, e.g. "DE"')
    if entry.countries and not world.countries:
        words = "needs the setting gateway.country_database (a MaxMind file): it is not in this file"
        yield Finding(("countries",), words, "warning")
    if entry.user_agent is not None:
        try:
            re2.compile(entry.user_agent, _quiet())
        except re2.error as error:
            yield Finding(("user_agent",), f"no regular expression in RE2's syntax: {error}")
    yield from _known_routes(("routes",), entry.routes, world)


def _quiet() -> re2.Options:
    """RE2 would print what it refuses."""
    options = re2.Options()
    options.log_errors = False
    return options


def cycles(routes: Mapping[str, RouteWrite]) -> Iterator[tuple[str, Finding]]:
    """Fallbacks and overflows that come back to where they began; each cycle once, at its first route by name."""
    told: set[frozenset[str]] = set()
    for name in sorted(routes):
        for path, start in _edges(routes[name]):
            way = _way_back(start, name, routes)
            if way is not None and frozenset(way) not in told and start != name:
                told.add(frozenset(way))
                yield (
                    name,
                    Finding(path, f"comes back to itself: {' -> '.join([name, *way])}; take one step out"),
                )


def unknown_provider(path: Path, name: str, world: World) -> Finding:
    """The finding about a provider that is in no table."""
    words = (
        f"unknown provider '{name}'; {did_you_mean(name, world.providers)} Its own row: [providers.{name}]"
    )
    return Finding(path, words)


def _target(place: int, target: TargetSpec, task: Task, world: World) -> Iterator[Finding]:
    path = ("targets", place)
    if target.canary_percent is not None and target.shadow_percent is not None:
        yield Finding((*path, "shadow_percent"), "a target is a canary or a shadow, not both")
    if isinstance(target, EngineTargetSpec):
        if world.deployments is not None:
            yield from _engine(path, target, task, world.deployments)
    elif target.provider not in world.providers:
        yield unknown_provider((*path, "provider"), target.provider, world)


def _engine(
    path: Path, target: EngineTargetSpec, task: Task, deployments: Mapping[str, Deployed]
) -> Iterator[Finding]:
    found = deployments.get(target.deployment)
    if found is None:
        words = f"no deployment '{target.deployment}' yet; {did_you_mean(target.deployment, deployments)}"
        yield Finding((*path, "deployment"), words, "warning")
        return
    if found.task is not task:
        words = f"deployment '{target.deployment}' computes '{found.task}', the route wants '{task}'"
        yield Finding((*path, "deployment"), words)
    if target.adapter is not None and target.adapter not in found.adapters:
        known = did_you_mean(target.adapter, found.adapters)
        words = f"deployment '{target.deployment}' has no adapter '{target.adapter}'; {known}"
        yield Finding((*path, "adapter"), words)


def _shares(entry: RouteWrite) -> Iterator[Finding]:
    seen: dict[object, int] = {}
    for place, target in enumerate(entry.targets):
        what = _identity(target)
        if what in seen:
            words = f"a target is named twice: it is target {seen[what] + 1} too; name each once, in order of preference"
            yield Finding(("targets", place), words)
        seen.setdefault(what, place)
    primaries = [one for one in entry.targets if one.canary_percent is None and one.shadow_percent is None]
    if not primaries:
        yield Finding(("targets",), "every target is a canary or a shadow: leave one without a share")
    elif entry.routing.policy in {"weighted", "least_loaded"} and not any(one.weight for one in primaries):
        yield Finding(
            ("targets",), f"every weight is 0, so the policy {entry.routing.policy} chooses nothing"
        )
    if entry.routing.hedge is not None and len(primaries) == 1:
        words = "there is one target only, so nothing is ever hedged"
        yield Finding(("routing", "hedge"), words, "warning")


def _identity(target: TargetSpec) -> object:
    if isinstance(target, EngineTargetSpec):
        return target.deployment, target.adapter
    return target.provider, target.model, target.base_url


def _other_route(path: Path, name: str, other: str, task: Task, world: World) -> Iterator[Finding]:
    if other == name:
        yield Finding(path, "names its own route: name another one")
    elif other not in world.routes:
        yield Finding(path, f"no route '{other}'; {did_you_mean(other, set(world.routes) - {name})}")
    elif world.routes[other].task is not task:
        words = f"route '{other}' has task '{world.routes[other].task}', needed is '{task}'"
        yield Finding(path, words)


def _known_routes(path: Path, names: Collection[str] | None, world: World) -> Iterator[Finding]:
    for place, name in enumerate(names or ()):
        if name not in world.routes:
            yield Finding((*path, place), _no_route(name, world))


def _no_route(name: str, world: World) -> str:
    return f"no route '{name}'; {did_you_mean(name, world.routes)}"


def _edges(entry: RouteWrite) -> Iterator[tuple[Path, str]]:
    for place, other in enumerate(entry.routing.fallbacks):
        yield ("routing", "fallbacks", place), other
    if entry.routing.hold.overflow_route is not None:
        yield ("routing", "hold", "overflow_route"), entry.routing.hold.overflow_route


def _way_back(start: str, goal: str, routes: Mapping[str, RouteWrite]) -> list[str] | None:
    """Route names from `start` to `goal` along fallbacks, or None."""
    waiting: list[list[str]] = [[start]]
    seen = {start}
    while waiting:
        way = waiting.pop(0)
        if way[-1] == goal:
            return way
        for _path, other in _edges(routes[way[-1]]) if way[-1] in routes else ():
            if other not in seen:
                seen.add(other)
                waiting.append([*way, other])
    return None
