"""The price book: `prices.toml`, read and checked, with the operator's own prices laid over it.

    price = book().lookup("openai", "gpt-4o-mini", now)     # None: unknown, and never zero

A row holds from `effective_from` until the next row of the same model begins, or until its own `until`. It names one model,
with `also` for further names of it, or every model with a prefix (`claude-sonnet-4-5*`); an exact name goes before a prefix, a
longer prefix before a shorter one, an operator's row before a shipped one. What it does not know: quantities (`cost.py`), who
pays.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from foundry.errors import ConfigurationError
from foundry.types.money import LongPrompt, Price, TokenRates, UsdPerMtok, UsdPerUnit

_RATES = frozenset(Price.model_fields) - {"price_id", "source"}


class PriceRow(TokenRates):
    """One price of one model (or of all with a prefix) from one day on."""

    provider: str = Field(min_length=1)
    """Name of a row of `providers/vendors.toml`, or of the operator's own."""
    model: str = Field(min_length=1, pattern=r"^[^*]+\*?$")
    """The provider's name of the model; a `*` at the end: every model whose name begins so."""
    also: tuple[str, ...] = ()
    """Further names that the provider gives to the same model."""
    effective_from: date
    """First day, UTC."""
    until: date | None = None
    """First day on which it no longer holds, UTC. None: until the next row begins."""
    source: str = Field(default="operator", min_length=1)
    """The public page that says so."""
    read: date | None = None
    """When it was read there."""
    long_prompt: LongPrompt | None = None
    per_image_usd: UsdPerUnit | None = None
    per_audio_second_usd: UsdPerUnit | None = None
    per_mchar_usd: UsdPerMtok | None = None
    per_search_usd: UsdPerUnit | None = None
    per_request_usd: UsdPerUnit = Decimal(0)

    @model_validator(mode="after")
    def _says_something(self) -> PriceRow:
        if not (self.model_fields_set & _RATES):
            raise ValueError("a price row needs at least one rate")
        if self.until is not None and self.until <= self.effective_from:
            raise ValueError("until must be after effective_from")
        return self

    def price(self) -> Price:
        """As it goes into snapshots and usage records."""
        source = self.source if self.read is None else f"{self.source}, read {self.read}"
        rates = self.model_dump(include=set(_RATES), exclude_unset=True)
        name = f"{self.provider}/{self.model}@{self.effective_from}"
        return Price(price_id=name, source=source, **rates)

    def holds(self, day: date) -> bool:
        """Whether it is valid on a day, later rows aside."""
        return self.effective_from <= day and (self.until is None or day < self.until)


class _Layer:
    """The rows of one origin, ready for lookup."""

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self._exact: dict[tuple[str, str], list[tuple[PriceRow, Price]]] = defaultdict(list)
        self._prefixes: dict[str, dict[str, list[tuple[PriceRow, Price]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for row in sorted(rows, key=lambda row: row.effective_from, reverse=True):
            entry = (row, row.price())
            for name in (row.model, *row.also):
                if name.endswith("*"):
                    self._prefixes[row.provider][name[:-1]].append(entry)
                else:
                    self._exact[row.provider, name].append(entry)

    def lookup(self, provider: str, model: str, day: date) -> Price | None:
        """The newest row that has begun decides, also when it has ended."""
        found = _valid(self._exact.get((provider, model), ()), day)
        if found is not None:
            return found
        prefixes = self._prefixes.get(provider, {})
        for prefix in sorted(prefixes, key=len, reverse=True):
            if model.startswith(prefix) and (found := _valid(prefixes[prefix], day)) is not None:
                return found
        return None


def _valid(entries: Sequence[tuple[PriceRow, Price]], day: date) -> Price | None:
    newest = next((entry for entry in entries if entry[0].effective_from <= day), None)
    return newest[1] if newest is not None and newest[0].holds(day) else None


class PriceBook:
    """Prices by provider, model and time."""

    def __init__(self, shipped: Iterable[PriceRow], operators: Iterable[PriceRow] = ()) -> None:
        self._layers = (_Layer(operators), _Layer(shipped))

    def lookup(self, provider: str, model: str, at: datetime) -> Price | None:
        """The price that holds at a moment, or None when none is known."""
        day = at.astimezone(UTC).date()
        for layer in self._layers:
            found = layer.lookup(provider, model, day)
            if found is not None:
                return found
        return None


_rows = TypeAdapter(tuple[PriceRow, ...])


@cache
def shipped_rows() -> tuple[PriceRow, ...]:
    """The rows of prices.toml."""
    text = files("foundry.pricing").joinpath("prices.toml").read_text(encoding="utf-8")
    return _rows.validate_python(tomllib.loads(text, parse_float=Decimal)["price"])


@cache
def book() -> PriceBook:
    """The shipped prices."""
    return PriceBook(shipped_rows())


def book_with(extra: Sequence[Mapping[str, object]]) -> PriceBook:
    """The shipped prices under the operator's rows (`[[prices]]` of foundry.toml). Raises ConfigurationError naming row and
    field."""
    if not extra:
        return book()
    try:
        return PriceBook(shipped_rows(), _rows.validate_python(tuple(extra)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"[[prices]] {where}: {first['msg']}", param=f"prices.{where}") from error
