"""The vendors that routes can name: rows of `foundry/providers/vendors.toml`, and the operator's own over them.

What it does not know: HTTP, routes.
"""

from __future__ import annotations

from control_api.kit.db import ReadSession
from control_api.providers import repository
from foundry.declare.model import OperatorPrice, ProviderRow
from foundry.declare.vendors import merged_vendors
from foundry.providers.vendors import Vendor
from foundry.types.money import Price


async def list_all(session: ReadSession) -> list[tuple[str, Vendor, bool]]:
    """Every vendor by name, and whether the configuration file declares it."""
    rows = await operator_rows(session)
    return [(name, vendor, name in rows) for name, vendor in sorted(merged_vendors(rows).items())]


async def names(session: ReadSession) -> list[str]:
    """Names that routes may use."""
    return sorted(merged_vendors(await operator_rows(session)))


async def operator_rows(session: ReadSession) -> dict[str, ProviderRow]:
    """The rows of `[providers.NAME]` in force."""
    row = await repository.in_force(session)
    return {} if row is None else row.providers


async def operator_prices(session: ReadSession) -> dict[tuple[str, str], Price]:
    """The rows of `[[prices]]` in force, by provider and model."""
    row = await repository.in_force(session)
    found = [] if row is None else [OperatorPrice.model_validate(price) for price in row.prices]
    return {(price.provider, price.model): price.price() for price in found}
