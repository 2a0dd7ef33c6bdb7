"""One counter as the ledger sees it: who holds how much of the cap, and who waits for some.

Safety: what all replicas may use (`claim`) never exceeds the cap, as only a grant raises it. No false refusal: before it says no,
the ledger (1) freezes every replica that holds something, so that none admits by itself, and (2) asks each again. Held amounts
can only have sunk since (2) began, so the sum of what is heard was in use at that moment, and the refusal is right. Everything that
waits is decided by one such round. What it does not know: time, transport, journals.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import Enum

from foundry.gateway.limits.wire import Award, CounterId, Statement

_SLICE_DIVISOR = 2
"""A refill takes at most this part of what is free, shared by the replicas: slices shrink as the limit nears."""
_RELAXED = 4
"""A tight counter loosens when a quarter of its cap is free again."""


class Entry:
    """One replica's part of a counter; fields as in `Statement`."""

    __slots__ = ("frozen", "held", "lease", "life", "round", "spent", "written")

    def __init__(self, life: int, lease: int = 0, spent: int = 0) -> None:
        self.life, self.lease, self.spent = life, lease, spent
        self.held = self.round = 0
        self.frozen = False
        self.written = -1
        """The claim that the journal knows."""

    @property
    def claim(self) -> int:
        """What it may use, or has used beyond that."""
        return max(self.lease, self.spent + self.held)


class Pending:
    """One need that waits: `decided` is None until it is granted or refused."""

    __slots__ = ("amount", "asked", "decided")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.asked = False
        self.decided: bool | None = None


class Phase(Enum):
    """Of a round."""

    IDLE = 0
    FREEZING = 1
    ASKING = 2


class Tally:
    """State of one counter. Feed it with `hear`, move it on with `advance`, answer with `award`."""

    __slots__ = (
        "_awaiting", "_phase", "_silent", "calls", "cap", "counter", "end", "entries", "gauge", "needs", "retired", "round",
        "tight", "version",
    )  # fmt: skip

    def __init__(self, counter: CounterId, *, cap: int, end: float, gauge: bool, version: int) -> None:
        self.counter, self.cap, self.end, self.gauge, self.version = counter, cap, end, gauge, version
        self.entries: dict[str, Entry] = {}
        self.needs: dict[tuple[str, int], Pending] = {}
        self.retired = 0
        """What replicas used in earlier lives."""
        self.tight = False
        self.round = 0
        self.calls: set[str] = set()
        """Replicas to call now; the ledger takes them out."""
        self._phase = Phase.IDLE
        self._awaiting: set[str] = set()
        self._silent: set[str] = set()

    @property
    def waits(self) -> bool:
        """Some need is undecided."""
        return any(need.decided is None for need in self.needs.values())

    def free(self) -> int:
        """What nobody may use yet; negative when use went beyond the cap or the cap was lowered."""
        earmarked = sum(need.amount for need in self.needs.values() if need.decided)
        return self.cap - self.retired - earmarked - sum(entry.claim for entry in self.entries.values())

    def spent(self) -> int:
        """Settled by all; never sinks."""
        return self.retired + sum(entry.spent for entry in self.entries.values())

    def hear(self, replica: str, statement: Statement, version: int, *, same_epoch: bool) -> None:
        """Take in what a replica states. same_epoch: it knows this ledger's rounds."""
        if version >= self.version:
            self.cap, self.version = statement.cap, version
        entry = self.entries.get(replica)
        if entry is None or entry.life < statement.life:
            if entry is not None and not self.gauge:
                self.retired += entry.claim
            entry = self.entries[replica] = Entry(statement.life)
        entry.spent = max(entry.spent, statement.spent)
        entry.held, entry.lease = statement.held, statement.lease
        entry.frozen = statement.frozen
        entry.round = statement.round if same_epoch else 0
        self._silent.discard(replica)
        named = {need.id: need for need in statement.needs}
        for key in [key for key in self.needs if key[0] == replica and key[1] not in named]:
            del self.needs[key]
        for need in statement.needs:
            self.needs.setdefault((replica, need.id), Pending(need.amount))

    def drop(self, replica: str) -> None:
        """The replica is gone: its needs lapse, what it held of a gauge comes back, all else counts as spent."""
        for key in [key for key in self.needs if key[0] == replica]:
            del self.needs[key]
        if self.gauge:
            self.entries.pop(replica, None)

    def advance(self, live: AbstractSet[str], speaker: str | None = None) -> None:
        """Decide what can be decided. speaker: the replica that has just been heard."""
        while self.waits:
            if self._phase is not Phase.ASKING:
                self._grant_what_fits()
                if not self.waits:
                    break
            if self._phase is Phase.IDLE:
                self._begin(live, speaker)
            self._awaiting = {name for name in self._awaiting if name in live and not self._heard(name)}
            if self._awaiting:
                return
            if self._phase is Phase.ASKING:
                self._decide()
            self._phase = Phase.IDLE
        self._phase = Phase.IDLE
        self._silent.clear()
        if self.free() < 0:
            self._recall(live)
        elif self.tight and self.free() * _RELAXED >= self.cap:
            self.tight = False

    def give_up_waiting(self) -> None:
        """Those who have not answered count with what they hold."""
        self._silent |= self._awaiting
        self._awaiting.clear()

    def award(self, replica: str, want: int, replicas: int) -> Award:
        """The answer to the replica's statement: decided needs, and some room if there is plenty."""
        entry = self.entries[replica]
        granted, refused = self._collect(replica)
        base = entry.claim if granted else entry.lease
        entry.lease = base + sum(granted.values())
        if want > 0 and not self.tight and not self.waits:
            entry.lease += max(0, min(want, self.free() // (_SLICE_DIVISOR * max(1, replicas))))
        if not self.tight:
            entry.frozen = False
        others = [part for name, part in self.entries.items() if name != replica]
        return Award(
            counter=self.counter,
            life=entry.life,
            lease=entry.lease,
            tight=self.tight,
            round=self.round,
            spent_elsewhere=self.retired + sum(part.spent for part in others),
            used_elsewhere=self.retired + sum(part.spent + part.held for part in others),
            granted=tuple(granted),
            refused=tuple(refused),
        )

    def _collect(self, replica: str) -> tuple[dict[int, int], list[int]]:
        granted: dict[int, int] = {}
        refused: list[int] = []
        for key, need in list(self.needs.items()):
            if key[0] == replica and need.decided is not None:
                del self.needs[key]
                if need.decided:
                    granted[key[1]] = need.amount
                else:
                    refused.append(key[1])
        return granted, refused

    def _undecided(self) -> list[tuple[str, Pending]]:
        return [(replica, need) for (replica, _), need in self.needs.items() if need.decided is None]

    def _grant_what_fits(self) -> None:
        """In order of arrival; what cannot fit even if all that is held came back is refused at once."""
        free, left = self.free(), self.cap - self.spent()
        for replica, need in self._undecided():
            if need.amount <= free:
                free -= need.amount
                self._settle(replica, need, granted=True)
            elif need.amount > left:
                self._settle(replica, need, granted=False)

    def _settle(self, replica: str, need: Pending, *, granted: bool) -> None:
        need.decided = granted
        self.calls.add(replica)

    def _holders(self, live: AbstractSet[str]) -> set[str]:
        """Live replicas whose use can still change: they hold something, or have been granted it and may not want it any more."""
        granted = {replica for (replica, _), need in self.needs.items() if need.decided}
        return {
            name
            for name, entry in self.entries.items()
            if name in live and name not in self._silent and (entry.claim > entry.spent or name in granted)
        }

    def _begin(self, live: AbstractSet[str], speaker: str | None) -> None:
        holders, waiting = self._holders(live), self._undecided()
        self._awaiting = set()
        self._phase = Phase.ASKING
        if holders <= {speaker} and all(replica == speaker for replica, _ in waiting):
            for _, need in waiting:
                need.asked = True
            return  # nobody else to ask, and the one who waits has just told all
        unfrozen = {name for name in holders if not self.entries[name].frozen}
        self.tight = True
        self.round += 1
        if unfrozen:
            self._phase = Phase.FREEZING
            self._awaiting = unfrozen
        else:
            for _, need in waiting:
                need.asked = True
            self._awaiting = holders
        self.calls |= self._awaiting

    def _recall(self, live: AbstractSet[str]) -> None:
        """More is used than was granted: call in what others hold unused, once."""
        unfrozen = {name for name in self._holders(live) if not self.entries[name].frozen}
        if any(self.entries[name].round >= self.round for name in unfrozen):
            self.tight = True
            self.round += 1
            self.calls |= unfrozen

    def _heard(self, name: str) -> bool:
        entry = self.entries.get(name)
        return entry is None or entry.round >= self.round

    def _decide(self) -> None:
        free = self.free()
        for replica, need in self._undecided():
            if need.asked:
                granted = need.amount <= free
                free -= need.amount if granted else 0
                self._settle(replica, need, granted=granted)
