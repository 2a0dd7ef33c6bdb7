"""Facts about model families (`families.toml`): what a request to one must look like, whoever serves it.

What it does not know: vendors, wires, prices.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Reported = Literal["cached", "cache_write", "reasoning", "audio", "image"]
"""Kinds of `UsageCounts` that a family tells besides input and output tokens."""


class Family(BaseModel):
    """One family of models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: re.Pattern[str]
    """Searched in the target's name of the model."""
    options: dict[str, str] = {}
    """What legs read from `TargetFacts.options`: docs/providers.md lists them."""
    reports: tuple[Reported, ...] = ()
    source: str = Field(min_length=1)
    """Where these facts are documented."""


@cache
def families() -> dict[str, Family]:
    """All families, in order of precedence."""
    rows = tomllib.loads(files("foundry.providers").joinpath("families.toml").read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, Family]).validate_python(rows)


def family(model: str) -> Family | None:
    """The family that a model's name belongs to, or None."""
    return next((row for row in families().values() if row.match.search(model)), None)
