"""A snapshot's limits as lookups: which hold for a key, on a route or off any, whose counters they are, and what the route costs at most.

Worked out once per snapshot, and once per key and route that meet. What it does not know: what is used (`limiter.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from zoneinfo import ZoneInfo

from foundry.codecs.base import Call
from foundry.errors import PriceUnknown
from foundry.gateway.limits.estimate import Estimate, estimate
from foundry.gateway.limits.windows import window_at
from foundry.gateway.stand_ins import with_stand_ins
from foundry.types.limits import LimitEntry, Meter
from foundry.types.money import Price
from foundry.types.snapshot import EngineTarget, KeyEntry, ProviderTarget, RouteEntry, Snapshot

METERS: tuple[Meter, ...] = ("requests", "input_tokens", "output_tokens", "tokens", "concurrency", "usd")
"""A demand is a tuple of amounts in this order."""
REQUESTS, CONCURRENCY, USD = 0, 4, 5
USD_UNITS = 12
"""Money is counted in 10^-12 dollars: every cost is a whole number of them (`pricing/cost.py`)."""

Demand = tuple[int, int, int, int, int, int]
PLAIN: Demand = (1, 0, 0, 0, 1, 0)
"""Of a request that no model answers."""
_USER_CHARS = 200
"""A longer name of an end user is known by its hash."""

SliceKey = tuple[str, str]
"""Limit id and subject."""


def usd_to_units(usd: Decimal) -> int:
    """Exact for at most 12 decimals, cut off beyond."""
    return int(usd.scaleb(USD_UNITS))


class Rule:
    """One limit, with its present window."""

    __slots__ = ("cap", "end", "entry", "id", "meter", "name", "start", "zone")

    def __init__(self, entry: LimitEntry) -> None:
        self.entry = entry
        self.name = entry.name
        self.id = f"{entry.name}/{entry.meter}/{entry.window or 'now'}"
        """A limit that counts something else under the same name begins anew."""
        self.meter = METERS.index(entry.meter)
        self.cap = usd_to_units(entry.amount) if entry.meter == "usd" else int(entry.amount)
        self.zone = ZoneInfo(entry.time_zone)
        self.start, self.end = 0, 0.0

    def at(self, now: float) -> tuple[int, float]:
        """Start and end of the window that holds `now`."""
        if not self.start <= now < self.end:
            self.start, self.end = window_at(self.entry.window, self.zone, now)
        return self.start, self.end

    def next_window(self, end: float) -> tuple[int, float]:
        """The window that begins when another one ends."""
        return window_at(self.entry.window, self.zone, end)

    def counts(self, route: str) -> bool:
        """Whether requests to the route count."""
        return self.entry.routes is None or route in self.entry.routes

    def names(self, *subjects: str) -> bool:
        """Whether it applies to one who goes by any of these names."""
        named = self.entry.subjects
        return named is None or any(subject in named for subject in subjects)


class Rates:
    """The dearest of several prices, kind by kind, in money units."""

    __slots__ = (
        "_per_audio_ms",
        "_per_char",
        "_per_image",
        "_per_input",
        "_per_output",
        "_per_request",
        "_per_search",
    )

    def __init__(self, prices: Iterable[Price]) -> None:
        prices = tuple(prices)

        def most(shift: int, *names: str) -> int:
            """shift: decimals from the rate's unit to the quantity's, e.g. 6 from a million tokens to one."""
            rates = [getattr(price, name) or Decimal(0) for price in prices for name in names]
            return usd_to_units(max(rates, default=Decimal(0)).scaleb(-shift))

        self._per_input = most(
            6,
            "input_per_mtok_usd",
            "cached_input_per_mtok_usd",
            "cache_write_per_mtok_usd",
            "audio_input_per_mtok_usd",
            "image_input_per_mtok_usd",
        )
        self._per_output = most(
            6, "output_per_mtok_usd", "audio_output_per_mtok_usd", "image_output_per_mtok_usd"
        )
        self._per_image = most(0, "per_image_usd")
        self._per_audio_ms = most(3, "per_audio_second_usd")
        self._per_char = most(6, "per_mchar_usd")
        self._per_search = most(0, "per_search_usd")
        self._per_request = most(0, "per_request_usd")

    def cost(self, use: Estimate) -> int:
        """At most this much for such a use."""
        return (
            use.input_tokens * self._per_input
            + use.output_tokens * self._per_output
            + use.images * self._per_image
            + use.audio_ms * self._per_audio_ms
            + use.characters * self._per_char
            + use.searches * self._per_search
            + self._per_request
        )


class Bound:
    """Limits that hold for some requests of a key, and whose counters they are."""

    __slots__ = ("_project_id", "_user_rules", "fixed", "models", "targets", "unpriced", "version")

    def __init__(
        self,
        version: int,
        key: KeyEntry,
        rules: Sequence[Rule],
        route: str | None = None,
        targets: Sequence[EngineTarget | ProviderTarget] = (),
    ) -> None:
        self.version = version
        self._project_id = key.project_id
        subjects = {"key": key.key_id, "project": key.project_id, "organization": key.organization_id}
        if route is not None:
            subjects["route"] = route
        self.fixed: tuple[tuple[Rule, SliceKey], ...] = tuple(
            (rule, (rule.id, subjects[rule.entry.scope]))
            for rule in rules
            if rule.entry.scope in subjects and rule.names(subjects[rule.entry.scope])
        )
        self._user_rules = (
            () if route is None else tuple(rule for rule in rules if rule.entry.scope == "user")
        )
        self.targets = tuple((target.target_id, target.model) for target in targets)
        self.models: tuple[tuple[str, tuple[tuple[Rule, SliceKey], ...]], ...] = tuple(
            (model, found)
            for model in dict.fromkeys(target.model for target in targets)
            if (
                found := tuple(
                    (r, (r.id, model)) for r in rules if r.entry.scope == "model" and r.names(model)
                )
            )
        )
        self.unpriced = frozenset[str]()
        """Targets that a budget rules out, as nobody knows what they cost."""

    @property
    def binds(self) -> bool:
        """Whether anything holds at all."""
        return bool(self.fixed or self._user_rules or self.models)

    def of_user(self, user: str) -> list[tuple[Rule, SliceKey]]:
        """Limits per end user; requests that name none share one counter of their project."""
        if not self._user_rules:
            return []
        if len(user) > _USER_CHARS:
            user = "sha256:" + sha256(user.encode()).hexdigest()
        subject = f"{self._project_id}/{user}"
        return [(rule, (rule.id, subject)) for rule in self._user_rules if rule.names(user, subject)]


class Binding(Bound):
    """All limits that hold for one key on one route."""

    __slots__ = ("_rates", "_route", "_unpriced_error")

    def __init__(self, rules: LimitRules, key: KeyEntry, route: RouteEntry) -> None:
        targets = rules.targets_of(route)
        here = [rule for rule in rules.rules if rule.counts(route.name)]
        super().__init__(rules.version, key, here, route.name, targets)
        self._route = route
        budgets = [rule for rule, _ in self.fixed] + list(self._user_rules)
        budgets += [rule for _, found in self.models for rule, _ in found]
        budget = next((rule.name for rule in budgets if rule.meter == USD), None)
        prices = [target.price for target in targets if target.price is not None]
        self._rates = Rates(prices) if budget else None
        if budget:
            self.unpriced = frozenset(target.target_id for target in targets if target.price is None)
        self._unpriced_error = (
            f"the budget '{budget}' cannot be kept, as no target of '{route.name}' has a price:"
            " set one on the deployment, on the route's target or in prices.toml"
            if budget and not prices
            else None
        )

    def demand(self, call: Call, request_bytes: int) -> Demand:
        """What the request reserves, per meter: at least one unit each, so that a limit that is used up binds whatever is
        asked. Raises PriceUnknown when a budget holds and no target has a price."""
        if self._unpriced_error is not None:
            raise PriceUnknown(self._unpriced_error)
        use = estimate(self._route.task, call, request_bytes)
        given, made = use.input_tokens, use.output_tokens
        usd = self._rates.cost(use) if self._rates is not None else 0
        return 1, max(1, given), max(1, made), max(1, given + made), 1, max(1, usd)


class LimitRules:
    """The limits of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.version = snapshot.version
        self.rules = tuple(Rule(entry) for entry in snapshot.limits)
        self._routes: Mapping[str, RouteEntry] = {route.name: route for route in snapshot.routes}
        self._bindings: dict[tuple[str, str], Binding | None] = {}
        self._plain = [
            rule for rule in self.rules if rule.entry.routes is None and rule.meter in (REQUESTS, CONCURRENCY)
        ]
        self._bound: dict[str, Bound | None] = {}

    def binding(self, key: KeyEntry, route: str) -> Binding | None:
        """What holds for the key on the route; None: nothing."""
        if not self.rules:
            return None
        try:
            return self._bindings[key.key_id, route]
        except KeyError:
            made = Binding(self, key, self._routes[route])
            found = self._bindings[key.key_id, route] = made if made.binds else None
            return found

    def of_key(self, key: KeyEntry) -> Bound | None:
        """What holds for the key's requests that no route serves (files, batches, stored responses, models): its limits on
        requests and concurrency that are not for certain routes. None: nothing. They reserve `PLAIN`."""
        if not self._plain:
            return None
        try:
            return self._bound[key.key_id]
        except KeyError:
            made = Bound(self.version, key, self._plain)
            found = self._bound[key.key_id] = made if made.binds else None
            return found

    def targets_of(self, route: RouteEntry) -> list[EngineTarget | ProviderTarget]:
        """Every target that may serve the route's requests: its own, and those of the routes that may stand in for it. Not
        shadow targets: their copies are on nobody's account."""
        return [
            target
            for entry in with_stand_ins(route, self._routes)
            for target in entry.targets
            if target.shadow_percent is None
        ]
