"""Blocking rules: callers refused by address, country or user agent before anything else is done for them.

Compiled once per snapshot: networks become sets of integers by prefix length, so a rule with ten thousand of them costs as much
as one with ten. The caller's address is the peer's, or, when the peer is a proxy that the setting `gateway.trusted_proxies` names,
the last address in `x-forwarded-for` that is not such a proxy. What it does not know: keys, limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import maxminddb
import msgspec
import re2
import structlog

from foundry.errors import CallerBlocked, ConfigurationError
from foundry.types.guardrails import BlockRule

log = structlog.get_logger()

Address = IPv4Address | IPv6Address
_MAX_USER_AGENT = 1024
_BITS = {4: 32, 6: 128}


class Caller(msgspec.Struct, frozen=True):
    """Who calls, as far as rules look at it."""

    address: Address | None
    user_agent: str


class Networks:
    """A set of networks: is this address in one of them? Raises ConfigurationError for what is no network."""

    __slots__ = ("_by_length",)

    def __init__(self, cidrs: Iterable[str]) -> None:
        found: dict[tuple[int, int], set[int]] = {}
        for cidr in cidrs:
            try:
                network = ip_network(cidr, strict=False)
            except ValueError as error:
                raise ConfigurationError(
                    f"'{cidr}' is not an address or CIDR network", param="cidrs"
                ) from error
            shift = _BITS[network.version] - network.prefixlen
            found.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self._by_length = tuple(
            (version, shift, frozenset(heads)) for (version, shift), heads in found.items()
        )

    def __contains__(self, address: Address) -> bool:
        number, version = int(address), address.version
        return any(
            version == of_version and (number >> shift) in heads
            for of_version, shift, heads in self._by_length
        )


class Countries:
    """A MaxMind database, read into memory once. Raises ConfigurationError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        try:
            self._reader = maxminddb.open_database(str(path), maxminddb.MODE_MEMORY)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            raise ConfigurationError(
                f"the country database {path} cannot be read ({error}): set gateway.country_database to a MaxMind file",
                param="gateway.country_database",
            ) from error

    def of(self, address: Address) -> str:
        """ISO 3166 code, empty when the file does not know."""
        try:
            found = self._reader.get(address)
        except ValueError:  # an IPv6 address and a file of IPv4 networks
            return ""
        return _country(found)


class _Country(msgspec.Struct, frozen=True):
    iso_code: str = ""


class _Record(msgspec.Struct):
    country: _Country = _Country()
    registered_country: _Country = _Country()


def _country(record: object) -> str:
    try:
        read = msgspec.convert(record, _Record)
    except msgspec.ValidationError:
        return ""
    return read.country.iso_code or read.registered_country.iso_code


class _Rule:
    __slots__ = ("_countries", "_known", "_networks", "_user_agent", "rule")

    def __init__(self, rule: BlockRule, countries: Countries | None) -> None:
        self.rule = rule
        self._networks = Networks(rule.cidrs) if rule.cidrs else None
        self._countries = frozenset(code.upper() for code in rule.countries)
        self._known = countries
        self._user_agent = _compiled(rule) if rule.user_agent is not None else None

    def matches(self, address: Address | None, user_agent: str) -> bool:
        """Whether all its conditions hold; an address or country that is not known meets none."""
        if self._networks is not None and (address is None or address not in self._networks):
            return False
        if self._countries and self._country(address) not in self._countries:
            return False
        return self._user_agent is None or self._user_agent.search(user_agent) is not None

    def _country(self, address: Address | None) -> str:
        return self._known.of(address) if self._known is not None and address is not None else ""


class Blocks:
    """All rules of one snapshot. A rule that cannot be compiled is logged, and refuses every caller if it is an allow-list."""

    __slots__ = ("_everywhere", "_on_routes")

    def __init__(self, rules: Iterable[BlockRule], countries: Countries | None) -> None:
        compiled = [_made(rule, countries) for rule in rules]
        self._everywhere = tuple(rule for rule in compiled if rule.rule.routes is None)
        self._on_routes: dict[str, tuple[_Rule, ...]] = {}
        for rule in compiled:
            for route in rule.rule.routes or ():
                self._on_routes[route] = (*self._on_routes.get(route, ()), rule)

    @property
    def empty(self) -> bool:
        """No rule at all: nothing needs to be known of the caller."""
        return not self._everywhere and not self._on_routes

    def check(self, caller: Caller) -> None:
        """The rules that hold for every route. Raises CallerBlocked."""
        _check(self._everywhere, caller)

    def check_route(self, route: str, caller: Caller) -> None:
        """The rules that hold for this route only. Raises CallerBlocked."""
        rules = self._on_routes.get(route)
        if rules:
            _check(rules, caller)


def caller_of(
    scope: MutableMapping[str, Any],  # Any: the ASGI specification's own type
    headers: Mapping[bytes, bytes],
    trusted: Networks,
) -> Caller:
    """The caller's address, through proxies that are trusted, and what it calls itself."""
    user_agent = headers.get(b"user-agent", b"")[:_MAX_USER_AGENT].decode("latin-1")
    client = scope.get("client")
    address = _parsed(client[0]) if client else None
    if address is not None and address in trusted:
        lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for hop in reversed(b",".join(lines).decode("latin-1").split(",")):
            before = _parsed(hop.strip()) if hop.strip() else None
            if before is None:
                break
            address = before
            if address not in trusted:
                break
    return Caller(address, user_agent)


def check_rule(rule: BlockRule, *, has_countries: bool) -> None:
    """Called where rules are made. Raises ConfigurationError for a network, pattern or country that could never be matched."""
    if not (rule.cidrs or rule.countries or rule.user_agent is not None):
        raise ConfigurationError(f"blocking rule '{rule.name}' has no condition", param="cidrs")
    if rule.countries and not has_countries:
        raise ConfigurationError(
            f"blocking rule '{rule.name}' names countries: set gateway.country_database to a MaxMind file first",
            param="countries",
        )
    _Rule(rule, None)


def _check(rules: tuple[_Rule, ...], caller: Caller) -> None:
    for rule in rules:
        if rule.matches(caller.address, caller.user_agent) != rule.rule.allow:
            raise CallerBlocked(f"this caller is refused by the blocking rule '{rule.rule.name}'")


def _made(rule: BlockRule, countries: Countries | None) -> _Rule:
    try:
        if rule.countries and countries is None:
            log.warning("block_rule_without_country_database", rule=rule.name)
        return _Rule(rule, countries)
    except ConfigurationError as error:
        log.warning("block_rule_cannot_work", rule=rule.name, reason=error.message)
        return _Rule(rule.model_copy(update={"cidrs": (), "countries": ("?",), "user_agent": None}), None)


def _compiled(rule: BlockRule) -> re2._Regexp:  # pyright: ignore[reportPrivateUsage]  the only name its type has
    try:
        return re2.compile(rule.user_agent or "")
    except re2.error as error:
        raise ConfigurationError(
            f"blocking rule '{rule.name}': '{rule.user_agent}' is not a pattern in RE2's syntax: {error}",
            param="user_agent",
        ) from error


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    if text.startswith("["):  # [::1]:1234
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # 1.2.3.4:1234
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
