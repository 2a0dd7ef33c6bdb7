"""The table of OpenAI-compatible vendors: `vendors.toml`, read and checked.

To add a vendor, add a row there; nothing else. What it does not know: HTTP, routes, prices.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from foundry.errors import ConfigurationError
from foundry.settings import vendor_secret


class Vendor(BaseModel):
    """One OpenAI-compatible vendor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s]+[^/\s]$")]
    """Root without a trailing slash: `{base_url}/v1/chat/completions` is the chat endpoint."""
    secret_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]+$")]
    """Environment variable with the API key."""
    source: str
    """Where these facts are documented."""

    def secret(self) -> str:
        """The API key. Raises ConfigurationError that names the variable to set."""
        return vendor_secret(self.secret_env)


@cache
def vendors() -> dict[str, Vendor]:
    """All rows by name."""
    rows = tomllib.loads(files("foundry.providers").joinpath("vendors.toml").read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, Vendor]).validate_python(rows)


def vendor(name: str) -> Vendor:
    """One row. Raises ConfigurationError that lists the known names."""
    try:
        return vendors()[name]
    except KeyError:
        raise ConfigurationError(
            f"unknown provider '{name}': known are {', '.join(sorted(vendors()))}; add a row to vendors.toml",
            param="provider",
        ) from None
