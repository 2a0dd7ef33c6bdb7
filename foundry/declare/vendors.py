"""The operator's rows of `[providers.NAME]`, laid over the shipped table of vendors.

What it does not know: how a vendor is spoken to (`foundry.providers`).
"""

from __future__ import annotations

from collections.abc import Mapping

from foundry.declare.model import OPERATOR
from foundry.providers.vendors import Vendor, vendors


def known_providers() -> dict[str, Vendor]:
    """The shipped rows by name."""
    return vendors()


def merged(name: str, row: Mapping[str, object]) -> Vendor:
    """One row of the operator over the shipped row of that name. Raises ValidationError."""
    shipped = vendors().get(name)
    base: Mapping[str, object] = (
        shipped.model_dump(exclude_unset=True) if shipped else {"title": name, "source": OPERATOR}
    )
    return Vendor.model_validate({**base, **row})


def merged_vendors(rows: Mapping[str, Mapping[str, object]]) -> dict[str, Vendor]:
    """Every vendor that routes can name: the shipped ones, and the operator's over them."""
    return vendors() | {name: merged(name, row) for name, row in rows.items()}
