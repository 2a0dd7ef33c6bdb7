"""The vendors that routes can name: rows of `foundry/providers/vendors.toml`.

What it does not know: HTTP, routes.
"""

from __future__ import annotations

from foundry.providers.vendors import Vendor, vendors


def list_all() -> list[tuple[str, Vendor]]:
    """Every vendor, by name."""
    return sorted(vendors().items())
