"""The choices of one request on one route: who is asked first, who next, and when to give up.

The order of preference is the policy's; targets not yet tried come before second tries. What it does not know: how a target
is asked, how long a wait takes (`dispatch.py` does both).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from foundry.errors import DeploymentNotReady, FoundryError, NoTargetAvailable
from foundry.gateway.routing.plan import Plan
from foundry.gateway.routing.retries import full_jitter_s, verdict_on
from foundry.gateway.routing.targets import Candidate, Lease

_SOON_S = 1.0
"""Told as Retry-After when everything depends on a trial in flight."""
_NEVER = float("inf")


class Tries:
    """One request's tries on one route."""

    __slots__ = ("_error", "_left", "_order", "_random", "_retried", "_tried", "plan")

    def __init__(self, plan: Plan, order: Sequence[Candidate], random: Random) -> None:
        self.plan = plan
        self._order = order
        self._random = random
        self._error: FoundryError | None = None
        self._left = plan.routing.retries.attempts
        self._tried: dict[Candidate, float] = {}  # and from when on it may be asked again
        self._retried = 0

    def take(self, now: float, but: Candidate | None = None) -> Lease | None:
        """A place at the first target that is fit, has room and was not tried; None when there is none."""
        for candidate in self._order:
            if (
                candidate not in self._tried
                and candidate is not but
                and candidate.fit(now)
                and candidate.has_room()
            ):
                return candidate.enter(now)
        return None

    def full(self, now: float) -> list[Candidate]:
        """Targets not tried that only lack room: worth a place in the queue."""
        return [one for one in self._order if one not in self._tried and one.fit(now)]

    def failed(self, candidate: Candidate, error: FoundryError, now: float) -> None:
        """A try failed. Raises the error when no further one may be made."""
        verdict = verdict_on(error)
        self._tried[candidate] = now + (error.retry_after_s or 0.0) if verdict.same else _NEVER
        if verdict.skip:
            self._error = self._error or error
            return
        self._error = error  # the newest word of a target that was asked
        if not verdict.other or self._left == 0:
            raise error
        self._left -= 1

    def failed_beside(self, candidate: Candidate, error: FoundryError, now: float) -> None:
        """A hedge failed: the request still depends on the first try."""
        again = verdict_on(error).same
        self._tried[candidate] = now + (error.retry_after_s or 0.0) if again else _NEVER

    def again(self, now: float) -> tuple[Candidate, float] | None:
        """The target to try a second time and the seconds to wait before; None when there is none, or no budget."""
        retries = self.plan.routing.retries
        soonest: Candidate | None = None
        shortest_s = retries.max_ms / 1000.0
        for candidate, moment in self._tried.items():
            rests_s = max(moment, candidate.fit_at(now)) - now
            if rests_s <= shortest_s and (soonest is None or rests_s < shortest_s):
                soonest, shortest_s = candidate, rests_s
        if soonest is None or not self.plan.memory.budget.take_retry(now, retries.budget_ratio):
            return None
        wait_s = max(shortest_s, full_jitter_s(retries, self._retried, self._random))
        self._retried += 1
        return soonest, wait_s

    def nobody(self, now: float) -> FoundryError:
        """Why nobody serves: the last target's error, or that all are out or not ready."""
        if self._error is not None:
            return self._error
        blocked = [one.blocked for one in self._order if one.blocked is not None]
        if blocked and len(blocked) == len(self._order):
            engines = [error for error in blocked if isinstance(error, DeploymentNotReady)]
            return min(engines or blocked, key=lambda error: error.retry_after_s or 0.0).with_traceback(None)
        waits = [one.fit_at(now) - now for one in self._order if one.blocked is None]
        return NoTargetAvailable(
            f"every target of '{self.plan.name}' is out: they failed too often or asked for a rest",
            retry_after_s=max(_SOON_S, min(waits, default=_SOON_S)),
        )
