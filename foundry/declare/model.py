"""What `foundry.toml` may say about the gateway: six tables, each entry one of the contracts of `foundry.types`.

A table's name is the entry's name: `[limits.daily]` is a `LimitEntry` with the name "daily". What it does not know:
files, places, whether names that are used exist (`rules.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from foundry.pricing.book import PriceRow
from foundry.types.control import NounName, RouteName, RouteWrite
from foundry.types.guardrails import BlockRule, GuardrailProfile
from foundry.types.limits import LimitEntry

# Any: tables of a TOML document.

OPERATOR = "operator"
"""`source` of what the operator wrote without naming one."""
ProviderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=100)]
ProviderRow = dict[str, JsonValue]
"""A row of `[providers.NAME]`: some or all fields of a vendor's row; it is laid over the shipped row of that name."""


class GatewayFile(BaseModel):
    """The gateway's part of a file, checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    providers: dict[ProviderName, ProviderRow] = Field(default_factory=dict[str, ProviderRow])
    routes: dict[RouteName, RouteWrite] = Field(default_factory=dict[str, RouteWrite])
    limits: dict[NounName, LimitEntry] = Field(default_factory=dict[str, LimitEntry])
    guardrails: dict[NounName, GuardrailProfile] = Field(default_factory=dict[str, GuardrailProfile])
    blocks: dict[NounName, BlockRule] = Field(default_factory=dict[str, BlockRule])
    prices: tuple[PriceRow, ...] = ()


def operator_price_id(provider: str, model: str) -> str:
    """The id of a price that the operator gave none."""
    return f"{provider}/{model}@{OPERATOR}"


def route_from_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """What `RouteWrite` reads from a route's table: targets' prices get an id and a source where they have none."""
    targets = table.get("targets")
    if not isinstance(targets, list):
        return dict(table)
    return {**table, "targets": [_target(target) for target in targets]}


def _target(target: Any) -> Any:
    price = target.get("price") if isinstance(target, dict) else None
    if not isinstance(price, dict):
        return target
    price_id = operator_price_id(str(target.get("provider", "")), str(target.get("model", "")))
    return {**target, "price": {"price_id": price_id, "source": OPERATOR, **price}}


def named(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """What a named contract reads from its table."""
    return {**table, "name": name}
