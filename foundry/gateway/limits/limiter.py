"""The replica's side of limits: reserve before a request, settle after it.

`try_reserve` is synchronous and enough as long as the replica's slices hold out; `reserve` asks the ledger when they do not. Two tasks
talk to the ledger in the background: one reports and refills, one waits to be called. While the ledger does not answer, what is held is
handed out; then requests wait a few seconds and are refused with LimitsUnavailable. What it does not know: HTTP, routing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from foundry.errors import LimitsUnavailable
from foundry.gateway.limits.refusal import Claim, Headers, headers_of, refusal_of
from foundry.gateway.limits.rules import CONCURRENCY, REQUESTS, USD, Bound, Demand, usd_to_units
from foundry.gateway.limits.shares import Shares
from foundry.gateway.limits.slices import Slice, Waiter
from foundry.gateway.limits.wire import LedgerClient
from foundry.types.usage import UsageCounts


class Use(NamedTuple):
    """What one attempt used: the truth that is settled. cost_usd: None when it cannot be known."""

    counts: UsageCounts
    cost_usd: Decimal | None
    model: str = ""
    """The target's model, for limits per model."""


class Reservation:
    """What one request holds. `settle` it exactly once, whatever becomes of the request; synchronous, never fails."""

    __slots__ = ("_beside", "_claims", "_limiter", "_settled", "excluded")

    def __init__(
        self, limiter: Limiter, claims: list[Claim], excluded: frozenset[str], beside: Reservation | None
    ) -> None:
        self._limiter, self._claims, self._settled, self._beside = limiter, claims, False, beside
        self.excluded = excluded
        """Target ids that limits rule out for this request."""

    def settle(self, *uses: Use) -> None:
        """Put the truth in place of the estimate; no uses: nothing was used. A second call does nothing."""
        if self._settled:
            return
        self._settled = True
        for claim in self._claims:
            part = claim.slice
            index = claim.rule.meter
            if index == CONCURRENCY:
                part.used -= claim.amount
            elif index != REQUESTS or claim.model:
                actual = _actual(index, claim, uses)
                part.used += actual - claim.amount
                part.spent += actual
            if part.frozen or part.used > part.lease:
                self._limiter.shares.tell(part)

    def counts_in(self, part: Slice) -> bool:
        """Whether the request, or one that it is a part of, counts in this slice already."""
        if any(claim.slice is part for claim in self._claims):
            return True
        return self._beside is not None and self._beside.counts_in(part)

    def headers(self) -> Headers:
        """`RateLimit-Policy`, `RateLimit` and `x-ratelimit-*` as of now."""
        return headers_of(self._claims, self._limiter.wall())


class Limiter:
    """One per gateway replica. replica: its unique name. wait_s: how long a request waits for the ledger at most."""

    def __init__(
        self,
        ledger: LedgerClient,
        replica: str,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        wait_s: float = 5.0,
    ) -> None:
        self.wall = wall
        self._wait_s = wait_s
        self._needs = 0
        self.shares = Shares(ledger, replica, wall=wall, monotonic=monotonic)
        self._slices = self.shares.current

    def start(self) -> None:
        """Begin to talk to the ledger, in the running loop; the first request that a limit holds for does it otherwise."""
        self.shares.start()

    async def stop(self) -> None:
        """Give everything back, if the ledger answers within a moment."""
        await self.shares.stop()

    def try_reserve(
        self, binding: Bound, demand: Demand, user: str = "", beside: Reservation | None = None
    ) -> Reservation | None:
        """Reserve from this replica's slices. None: they are not enough, `await reserve(...)`. beside: of the request that this
        one is a part of; what it counts in as a request counts once."""
        claims = self._claims(binding, demand, user, beside)
        for part, amount, _, _ in claims:
            if part.frozen or part.used + amount > part.lease:
                return None
        for part, amount, rule, model in claims:
            part.used += amount
            part.touched = True
            if rule.meter == REQUESTS and not model:
                part.spent += amount
            if part.lease - part.used < part.low and not part.dirty:
                self.shares.tell(part)
        return Reservation(self, claims, binding.unpriced, beside)

    async def reserve(
        self, binding: Bound, demand: Demand, user: str = "", beside: Reservation | None = None
    ) -> Reservation:
        """The same, asking the ledger for what is missing. Raises LimitExceeded or BudgetExhausted with the headers that say
        which limit and until when; LimitsUnavailable."""
        taken: list[Claim] = []
        refused: list[Claim] = []
        waiting: list[tuple[Claim, int, Waiter]] = []
        for claim in self._claims(binding, demand, user, beside):
            part, amount = claim.slice, claim.amount
            part.touched = True
            if part.never_fits(amount):
                refused.append(claim)
            elif part.fits(amount):
                part.used += amount
                taken.append(claim)
            else:
                self._needs += 1
                waiting.append((claim, self._needs, part.wait(self._needs, amount)))
                self.shares.tell(part)
        try:
            if waiting:
                await self._decided(waiting)
            for claim, _, waiter in waiting:
                (taken if waiter.future.result() else refused).append(claim)
            waiting.clear()
            return self._conclude(binding, taken, refused, beside)
        finally:
            self._withdraw(waiting)
            if waiting:
                self._give_back(taken)

    def _conclude(
        self, binding: Bound, taken: list[Claim], refused: list[Claim], beside: Reservation | None
    ) -> Reservation:
        """A limit per model rules out its model's targets; the request is refused when none is left, or by any other limit."""
        excluded = binding.unpriced
        if refused:
            out = {claim.model for claim in refused}
            excluded = excluded | {target for target, model in binding.targets if model in out}
            if "" in out or all(target in excluded for target, _ in binding.targets):
                self._give_back(taken)
                worst = next((claim for claim in refused if not claim.model), refused[0])
                raise refusal_of(worst, [*refused, *taken], self.wall())
            self._give_back([claim for claim in taken if claim.model in out])
            taken = [claim for claim in taken if claim.model not in out]
        for claim in taken:
            if claim.rule.meter == REQUESTS and not claim.model:
                claim.slice.spent += claim.amount
        return Reservation(self, taken, excluded, beside)

    async def _decided(self, waiting: Sequence[tuple[Claim, int, Waiter]]) -> None:
        if self.shares.cut_off_s > self._wait_s:
            raise self._unavailable()
        _, undecided = await asyncio.wait([waiter.future for _, _, waiter in waiting], timeout=self._wait_s)
        if undecided:
            raise self._unavailable()

    def _unavailable(self) -> LimitsUnavailable:
        return LimitsUnavailable(
            "the gateway cannot tell at present whether your limits allow this request: try again",
            retry_after_s=1.0,
        )

    def _withdraw(self, waiting: Sequence[tuple[Claim, int, Waiter]]) -> None:
        for claim, number, waiter in waiting:
            if (
                claim.slice.needs.pop(number, None) is None
                and waiter.future.done()
                and waiter.future.result()
            ):
                claim.slice.used -= claim.amount
            self.shares.tell(claim.slice)

    def _give_back(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            claim.slice.used -= claim.amount
            self.shares.tell(claim.slice)

    def _claims(self, binding: Bound, demand: Demand, user: str, beside: Reservation | None) -> list[Claim]:
        now, slices = self.wall(), self._slices
        self.shares.version = max(self.shares.version, binding.version)
        claims: list[Claim] = []
        for rule, key in (*binding.fixed, *binding.of_user(user)):
            part = slices.get(key)
            if part is None or now >= part.end or part.cap != rule.cap:
                part = self.shares.open(rule, key, now)
            claims.append(Claim(part, demand[rule.meter], rule, ""))
        for model, found in binding.models:
            for rule, key in found:
                part = slices.get(key)
                if part is None or now >= part.end or part.cap != rule.cap:
                    part = self.shares.open(rule, key, now)
                claims.append(Claim(part, demand[rule.meter], rule, model))
        if beside is not None:
            return [
                claim
                for claim in claims
                if claim.rule.meter not in (REQUESTS, CONCURRENCY) or not beside.counts_in(claim.slice)
            ]
        return claims


def _actual(meter: int, claim: Claim, uses: Sequence[Use]) -> int:
    """The truth for one claim; a cost that nobody knows is settled as it was reserved."""
    if claim.model:
        uses = [use for use in uses if use.model == claim.model]
    if meter == REQUESTS:
        return int(bool(uses))
    if meter == USD:
        known = sum(usd_to_units(use.cost_usd) for use in uses if use.cost_usd is not None)
        unknown = any(use.cost_usd is None for use in uses)
        return max(known, claim.amount) if unknown else known
    given = sum(use.counts.input_tokens for use in uses)
    made = sum(use.counts.output_tokens for use in uses)
    return (0, given, made, given + made)[meter]
