"""Vendors as the API shows them."""

from __future__ import annotations

from foundry.errors import ConfigurationError
from foundry.providers.vendors import Vendor
from foundry.types.control import ProviderRead


def provider_read(name: str, vendor: Vendor, declared: bool) -> ProviderRead:  # noqa: FBT001  a column of the row
    """The view of a row of vendors.toml, or of one that the configuration file lays over it."""
    return ProviderRead(
        name=name,
        title=vendor.title,
        base_url=vendor.base_url or "",
        secret_env=vendor.secret_env or "",
        secret_set=_has_secret(vendor),
        source="file" if declared else "shipped",
    )


def _has_secret(vendor: Vendor) -> bool:
    try:
        vendor.secret()
    except ConfigurationError:
        return False
    return True
