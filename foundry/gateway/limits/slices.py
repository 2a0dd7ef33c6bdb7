"""A replica's slice of one counter: what it may hand out without asking.

What it does not know: requests, transport, other replicas.
"""

from __future__ import annotations

import asyncio

from foundry.gateway.limits.wire import Award, CounterId, Need, Statement

_FIRST_BATCH = 4
"""The first refill is for so many requests like the first one."""
_BATCH_SHARE = 8
"""A refill asks for at most this part of the cap."""
_FAST_REFILL_S = 2.0
_GROWTH = 4
"""A refill that follows the last one faster than that is so much larger."""


class Waiter:
    """One request that waits for the ledger's word: True granted, False refused."""

    __slots__ = ("amount", "future")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Slice:
    """Mutable; amounts in whole units. `used` is what was settled here and what is reserved; never above `lease` by an
    admission, only by a request that used more than it had reserved."""

    __slots__ = (
        "asked_at", "batch", "cap", "counter", "dirty", "end", "frozen", "gauge", "heard", "lease", "life", "low", "needs", "returning",
        "round", "spent", "spent_elsewhere", "stated", "stated_at", "touched", "used", "used_elsewhere",
    )  # fmt: skip

    def __init__(self, counter: CounterId, *, cap: int, end: float, gauge: bool, life: int) -> None:
        self.counter, self.cap, self.end, self.gauge, self.life = counter, cap, end, gauge, life
        self.lease = self.spent = self.used = 0
        self.spent_elsewhere = self.used_elsewhere = 0
        self.low = self.batch = 0
        self.round = 0
        self.frozen = False
        self.heard = False
        """The ledger has answered the last statement."""
        self.returning = False
        """Give back what is unused with the next statement."""
        self.needs: dict[int, Waiter] = {}
        self.dirty = False
        """In line to be stated."""
        self.stated = (-1, -1)
        self.stated_at = self.asked_at = 0.0
        self.touched = False
        """Used since the last look at idle slices."""

    def fits(self, amount: int) -> bool:
        """Whether it can be handed out at once."""
        return not self.frozen and self.used + amount <= self.lease

    def never_fits(self, amount: int) -> bool:
        """Whether what is settled for good already rules it out, whatever comes back of what is held."""
        settled = 0 if self.gauge else self.spent_elsewhere + self.spent
        return settled + amount > self.cap

    @property
    def left(self) -> int:
        """What is not used by anyone, as far as this replica knows."""
        return max(0, self.cap - self.used_elsewhere - self.used)

    @property
    def is_over(self) -> bool:
        """Nothing in flight, nothing kept, and the ledger has heard so."""
        return self.heard and self.lease <= self.used == self.spent == self.stated[0] and not self.needs

    def wait(self, number: int, amount: int) -> Waiter:
        """Let a request wait; until it is answered all others wait behind it."""
        waiter = self.needs[number] = Waiter(amount)
        self.frozen = True
        self.batch = max(self.batch, min(_FIRST_BATCH * amount, self.cap // _BATCH_SHARE))
        return waiter

    def state(self, now: float) -> Statement:
        """What to tell the ledger now. Gives up what is unused if it must."""
        if self.frozen or self.returning:
            self.lease = min(self.lease, self.used)
        want = 0
        if not self.returning and now < self.end and self.lease - self.used <= self.low:
            if self.asked_at and now - self.asked_at < _FAST_REFILL_S:
                self.batch = min(self.batch * _GROWTH, max(self.batch, self.cap // _BATCH_SHARE))
            want, self.asked_at = self.batch, now
        self.returning = self.dirty = self.heard = False
        self.stated, self.stated_at = (self.spent, self.used), now
        return Statement(
            counter=self.counter,
            life=self.life,
            cap=self.cap,
            end=self.end,
            gauge=self.gauge,
            spent=self.spent,
            held=self.used - self.spent,
            lease=self.lease,
            frozen=self.frozen,
            round=self.round,
            want=want,
            needs=tuple(Need(number, waiter.amount) for number, waiter in self.needs.items()),
        )

    def apply(self, award: Award) -> bool:
        """Take the ledger's answer. True: it wants to hear again at once."""
        self.lease, self.heard = award.lease, True
        self.spent_elsewhere, self.used_elsewhere = award.spent_elsewhere, award.used_elsewhere
        for number in award.granted:
            waiter = self.needs.pop(number, None)
            if waiter is not None:
                self.used += waiter.amount
                waiter.future.set_result(True)
        for number in award.refused:
            waiter = self.needs.pop(number, None)
            if waiter is not None:
                waiter.future.set_result(False)
        called = award.round > self.round
        if award.round >= self.round:
            self.round = award.round
            self.frozen = award.tight
        self.frozen = self.frozen or bool(self.needs)
        self.low = min(self.batch, max(0, self.lease - self.used)) // 2
        return called

    def call(self, round_number: int) -> None:
        """The ledger wants to hear; a new round freezes."""
        if round_number > self.round:
            self.round, self.frozen = round_number, True
