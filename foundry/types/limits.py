"""Limits and budgets as data. What they count, over which window, for whom; semantics in docs/limits.md. What it does not
know: how they are enforced (`gateway/limits`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

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
    window: Window | None = Field(default=None, validate_default=True)
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

    @field_validator("amount")
    @classmethod
    def _whole(cls, amount: Decimal, info: ValidationInfo) -> Decimal:
        meter = info.data.get("meter", "usd")
        if meter != "usd" and amount != amount.to_integral_value():
            raise ValueError(f"{meter} are counted in whole numbers, not {amount}: write one")
        return amount

    @field_validator("window")
    @classmethod
    def _fits_the_meter(cls, window: Window | None, info: ValidationInfo) -> Window | None:
        meter = info.data.get("meter")
        if meter == "concurrency" and window is not None:
            raise ValueError("concurrency has no window: leave it out")
        if meter not in {None, "concurrency"} and window is None:
            raise ValueError(f"say over what time {meter} are counted, e.g. window = 'minute'")
        return window
