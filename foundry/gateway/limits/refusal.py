"""How a limit is told: the headers of an answer, and the error of a refusal.

`RateLimit-Policy` and `RateLimit` follow the IETF's draft-ietf-httpapi-ratelimit-headers (structured fields; w and t in
seconds); `x-ratelimit-*` are those that OpenAI's clients read. Budgets are told only to the one they refuse. What is left is
as last heard from the other replicas. What it does not know: who decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from foundry.errors import BudgetExhausted, LimitExceeded
from foundry.gateway.limits.rules import CONCURRENCY, REQUESTS, USD, USD_UNITS, Rule
from foundry.gateway.limits.slices import Slice
from foundry.gateway.limits.windows import FOREVER

Headers = list[tuple[bytes, bytes]]
_CONCURRENCY_RETRY_S = 1.0
"""Nobody knows when a request in flight ends."""
_UNITS = ("requests", "input-tokens", "output-tokens", "tokens", "concurrent-requests", "")
_WORDS = ("requests", "input tokens", "output tokens", "tokens", "requests at a time", "dollars")
_KIND = ("requests", "tokens", "tokens", "tokens", "", "")
_MINUTE, _HOUR = 60, 3600


class Claim(NamedTuple):
    """What one request takes from one counter."""

    slice: Slice
    amount: int
    rule: Rule
    model: str
    """For limits per model, else empty."""


def headers_of(claims: Iterable[Claim], now: float) -> Headers:
    """For an answer, as of now (seconds since 1970)."""
    policies: list[str] = []
    states: list[str] = []
    scarcest: dict[str, Claim] = {}
    for claim in claims:
        part, rule = claim.slice, claim.rule
        if rule.meter == USD:
            continue
        window, reset = "", ""
        if part.end < FOREVER:
            window = f";w={int(part.end - part.counter.start)}"
            reset = f";t={max(0, math.ceil(part.end - now))}"
        policies.append(f'"{rule.name}";q={part.cap}{window};qu="{_UNITS[rule.meter]}"')
        states.append(f'"{rule.name}";r={part.left}{reset}')
        kind = _KIND[rule.meter]
        if kind and (kind not in scarcest or part.left < scarcest[kind].slice.left):
            scarcest[kind] = claim
    if not policies:
        return []
    found = [
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(states).encode()),
    ]
    for kind, claim in scarcest.items():
        found += _openai(kind, claim.slice, now)
    return found


def _openai(kind: str, part: Slice, now: float) -> Headers:
    found = [
        (f"x-ratelimit-limit-{kind}".encode(), b"%d" % part.cap),
        (f"x-ratelimit-remaining-{kind}".encode(), b"%d" % part.left),
    ]
    if part.end < FOREVER:
        found.append((f"x-ratelimit-reset-{kind}".encode(), duration(part.end - now).encode()))
    return found


def duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: "350ms", "12s", "6m0s", "3h0m5s"."""
    if seconds < 1:
        return f"{max(0, math.ceil(seconds * 1000))}ms"
    whole = math.ceil(seconds)
    hours, minutes, rest = whole // _HOUR, whole % _HOUR // _MINUTE, whole % _MINUTE
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def refusal_of(claim: Claim, claims: Sequence[Claim], now: float) -> LimitExceeded:
    """The error for a request that does not fit; claims: all that it wanted, for the headers."""
    part, rule = claim.slice, claim.rule
    kind = BudgetExhausted if rule.meter == USD else LimitExceeded
    retry: float | None = None
    if rule.meter == CONCURRENCY:
        retry = _CONCURRENCY_RETRY_S
    elif part.end < FOREVER:
        retry = max(1.0, math.ceil(part.end - now))
    if claim.amount > part.cap:
        retry = None
    return kind(_message(claim, retry), retry_after_s=retry, headers=headers_of(claims, now))


def _message(claim: Claim, retry: float | None) -> str:
    part, rule = claim.slice, claim.rule
    window = f" per {rule.entry.window}" if rule.entry.window not in {None, "total"} else ""
    whose = f"{rule.entry.scope} '{part.counter.subject}'"
    words = f"the {'budget' if rule.meter == USD else 'limit'} '{rule.name}' of {whose}"
    words += f" is {_amount(rule, part.cap)} {_WORDS[rule.meter]}{window}"
    if claim.amount > part.cap:
        return f"{words}: this request alone reserves {_amount(rule, claim.amount)}; bound its answer or ask for a higher limit"
    words += f", {_amount(rule, part.left)} are left"
    if rule.meter not in {REQUESTS, CONCURRENCY}:
        words += f" and this request reserves {_amount(rule, claim.amount)}"
    if rule.meter == CONCURRENCY:
        return f"{words}: wait for one to end"
    return (
        f"{words}: it resets in {duration(retry)}"
        if retry
        else f"{words}: it never resets, ask for a higher one"
    )


def _amount(rule: Rule, units: int) -> str:
    if rule.meter != USD:
        return str(units)
    return f"{Decimal(units).scaleb(-USD_UNITS).normalize():f}"
