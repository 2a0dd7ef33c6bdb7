"""Limits and budgets as data. What they count, over which window, for whom; semantics in docs/limits.md. What it does not
know: how they are enforced (`gateway/limits`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Meter = Literal["requests", "input_tokens", "output_tokens", "tokens", "concurrency", "usd"]
Window = Literal["second", "minute", "hour", "day", "week", "month", "total"]
"""Calendar-aligned in the limit's time zone. `total` never resets. Concurrency has no window."""
Scope = Literal["key", "user", "project", "organization", "route", "model"]
"""Whose use is summed: one counter per key, per end user (of a project), per project, ... . `model` is the target's model."""


class LimitEntry(BaseModel):
    """One limit: for each subject of `scope` that it applies to, at most `amount` of `meter` per `window`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
    """Named in the error, the headers and the usage record."""
    meter: Meter
    scope: Scope
    subjects: tuple[str, ...] | None = None
    """Ids or names of the scope that it applies to; None: every one, each with a counter of its own."""
    routes: tuple[str, ...] | None = None
    """Only requests to these routes count; None: all."""
    amount: Annotated[Decimal, Field(ge=0, max_digits=24, decimal_places=9)]
    window: Window | None = None
    """None only for concurrency."""
    time_zone: str = "UTC"
    """IANA name; where the day, week (Monday) and month begin."""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"'{name}' is not an IANA time zone: write e.g. 'Europe/Berlin' or 'UTC'"
            ) from error
        return name

    @model_validator(mode="after")
    def _whole(self) -> LimitEntry:
        if (self.window is None) != (self.meter == "concurrency"):
            raise ValueError(
                f"limit '{self.name}': a {self.meter} limit "
                + ("needs a window" if self.window is None else "has no window")
            )
        if self.meter != "usd" and self.amount != self.amount.to_integral_value():
            raise ValueError(f"limit '{self.name}': {self.amount} {self.meter} is not a whole number")
        return self
