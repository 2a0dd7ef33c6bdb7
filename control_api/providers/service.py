"""The vendors that routes can name: rows of `foundry/providers/vendors.toml`, and the operator's own over them.

What it does not know: HTTP, routes.
"""

from __future__ import annotations

from control_api.kit.db import ReadSession
from control_api.providers import repository
from foundry.declare.model import ProviderRow
from foundry.pricing.book import PriceBook, book, book_with
from foundry.providers.vendors import Vendor, merged


async def list_all(session: ReadSession) -> list[tuple[str, Vendor, bool]]:
    """Every vendor by name, and whether the configuration file declares it."""
    rows = await operator_rows(session)
    return [(name, vendor, name in rows) for name, vendor in sorted(merged(rows).items())]


async def names(session: ReadSession) -> list[str]:
    """Names that routes may use."""
    return sorted(merged(await operator_rows(session)))


async def operator_rows(session: ReadSession) -> dict[str, ProviderRow]:
    """The rows of `[providers.NAME]` in force."""
    row = await repository.in_force(session)
    return {} if row is None else row.providers


async def price_book(session: ReadSession) -> PriceBook:
    """The shipped prices under the rows of `[[prices]]` in force."""
    row = await repository.in_force(session)
    return book() if row is None else book_with(row.prices)
