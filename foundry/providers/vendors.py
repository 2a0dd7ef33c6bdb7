"""The table of providers: `vendors.toml`, read and checked, with the operator's own rows laid over it.

A row holds the facts of an authenticated client: where it is, how to authenticate, which wires are spoken there. How a wire
is spoken is in `codecs/`, what a model family wants in `families.py`, what it costs in `pricing/`. To add a provider whose
wires we speak, add a row; nothing else. What it does not know: HTTP, routes, prices.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from foundry.errors import ConfigurationError
from foundry.settings import vendor_secret

Wire = Literal["openai", "openai-responses", "anthropic", "gemini", "bedrock", "cohere"]
"""Protocols as targets speak them; `LEGS` in `codecs/__init__.py` says which callers each one can serve."""
Auth = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "aws-sigv4"]
"""bearer: `Authorization: Bearer KEY`. aws-sigv4: each request is signed; with a secret set, that is sent as bearer instead.
The others: a header of that name."""
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]\S*[^/\s]$")]
Prefix = Annotated[str, Field(pattern=r"^(/\S*[^/\s])?$")]


class Row(BaseModel):
    """Base: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Surface(Row):
    """Where one wire differs from the rest of its provider. None: as the row says."""

    base_url: Url | None = None
    prefix: Prefix | None = None
    auth: Auth | None = None
    protocols: tuple[str, ...] | None = None
    """The callers' protocols (`Codec.name`) that can be served there. None: all that the wire can, as far as we know."""


class Vendor(Row):
    """One provider."""

    title: str = Field(min_length=1)
    base_url: Url | None = None
    """Root of all its paths, without a trailing slash; `{name}` is filled from `options`. None: the target gives it."""
    secret_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]+$")] | None = None
    """Environment variable with the API key. None: it wants none."""
    secret_required: bool = True
    """False: the variable may be unset, and nothing is sent."""
    auth: Auth = "bearer"
    wires: tuple[Wire, ...] = Field(default=("openai",), min_length=1)
    prefix: Prefix = "/v1"
    """What takes the place of `/v1` in the paths of OpenAI's and Anthropic's wires; `{model}` is the target's model."""
    query: dict[str, str] = {}
    """Added to every URL."""
    surfaces: dict[Wire, Surface] = {}
    options: dict[str, str] = {}
    """Facts that URLs, signatures and legs read (`TargetFacts.options`): docs/providers.md lists them."""
    source: str = Field(default="operator", min_length=1)
    """Where these facts are documented."""
    read: date | None = None
    """When they were read there."""

    @model_validator(mode="after")
    def _surfaces_are_of_its_wires(self) -> Vendor:
        strangers = set(self.surfaces) - set(self.wires)
        if strangers:
            raise ValueError(f"surfaces for wires that it does not speak: {', '.join(sorted(strangers))}")
        return self

    def secret(self) -> str | None:
        """The API key, or None where none is wanted or set. Raises ConfigurationError that names the variable to set."""
        if self.secret_env is None:
            return None
        try:
            return vendor_secret(self.secret_env)
        except ConfigurationError:
            if self.secret_required and self.auth != "aws-sigv4":
                raise
            return None


_table = TypeAdapter(dict[str, Vendor])


@cache
def vendors() -> dict[str, Vendor]:
    """The shipped rows by name."""
    return _table.validate_python(_shipped())


def merged(extra: Mapping[str, Mapping[str, object]]) -> dict[str, Vendor]:
    """The shipped rows with the operator's over them: fields of a known name replace the shipped ones (`options` and `query`
    are merged), a new name adds a provider. Raises ConfigurationError naming the row and field."""
    if not extra:
        return vendors()
    rows = dict(_shipped())
    for name, fields in extra.items():
        rows[name] = over_shipped(name, fields)
    try:
        return _table.validate_python(rows)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"[providers.{where}]: {first['msg']}", param=f"providers.{where}"
        ) from error


def vendor(name: str, table: Mapping[str, Vendor] | None = None) -> Vendor:
    """One row. Raises ConfigurationError that lists the known names."""
    rows = vendors() if table is None else table
    try:
        return rows[name]
    except KeyError:
        raise ConfigurationError(
            f"unknown provider '{name}': known are {', '.join(sorted(rows))}; add a row [providers.{name}] to foundry.toml",
            param="provider",
        ) from None


def over_shipped(name: str, fields: Mapping[str, object]) -> dict[str, object]:
    """One row of the operator laid over the shipped row of that name, not checked yet; a new one is titled by its name."""
    return _over(_shipped().get(name, {"title": name}), fields)


@cache
def _shipped() -> dict[str, dict[str, object]]:
    return tomllib.loads(files("foundry.providers").joinpath("vendors.toml").read_text(encoding="utf-8"))


def _over(base: Mapping[str, object], fields: Mapping[str, object]) -> dict[str, object]:
    row = {**base, **fields}
    for name in ("options", "query"):
        below, above = base.get(name), fields.get(name)
        if isinstance(below, dict) and isinstance(above, dict):
            row[name] = {**below, **above}
    return row
