"""The guardrails of one snapshot: profiles made into checks once, and per request the plan that holds for its route and key.

`Guards.plan` is what the lifecycle calls: None when nothing is attached, which is all that a request without guardrails pays.
What it does not know: how checks run (`engine.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from foundry.codecs.base import Answer, Call
from foundry.errors import ConfigurationError, GuardrailBlocked
from foundry.gateway.exchange import Exchange
from foundry.gateway.guardrails import texts
from foundry.gateway.guardrails.base import AskRoute, Place, Said
from foundry.gateway.guardrails.decisions import Decisions
from foundry.gateway.guardrails.engine import Check, Context, Cut, run
from foundry.gateway.guardrails.registry import check_entry
from foundry.gateway.guardrails.streams import UNGUARDED, Passage, StreamGuard
from foundry.gateway.guardrails.workers import Workers
from foundry.types.guardrails import GuardEntry, GuardrailProfile, Stage

log = structlog.get_logger()

_LOOKS = 8
"""Cheap guards look at a stream this often per window, so text goes out in small steps; others look once per window."""
Asking = Callable[[Exchange], AskRoute]
"""Makes the asker of one request: its cost goes on that request's key."""


class Guards:
    """All profiles of one snapshot. Immutable but for the cache of plans."""

    def __init__(self, profiles: Iterable[GuardrailProfile], workers: Workers) -> None:
        self._workers = workers
        self._profiles = {profile.name: profile for profile in profiles}
        self._checks = {
            name: tuple(_check(name, entry) for entry in profile.guards)
            for name, profile in self._profiles.items()
        }
        self._plans: dict[tuple[tuple[str, ...], tuple[str, ...]], Plan | None] = {((), ()): None}
        needed = dict.fromkeys(
            (check.entry.kind, check.options_json)
            for checks in self._checks.values()
            for check in checks
            if check.where == "worker"
        )
        if needed:
            workers.warm(list(needed))

    def plan(self, on_route: tuple[str, ...], on_key: tuple[str, ...]) -> Plan | None:
        """What holds for a request: the route's profiles and the key's. None: nothing."""
        name = (on_route, on_key)
        try:
            return self._plans[name]
        except KeyError:
            plan = self._plans[name] = self._make(on_route, on_key)
            return plan

    def _make(self, on_route: tuple[str, ...], on_key: tuple[str, ...]) -> Plan | None:
        checks: list[Check] = []
        window = 0
        for name in dict.fromkeys((*on_route, *on_key)):
            known = self._checks.get(name)
            if known is None:
                known = (_missing(name),)
            else:
                window = max(window, self._profiles[name].stream_window_chars)
            checks += known
        return Plan(tuple(checks), window, self._workers) if checks else None


class Plan:
    """The checks of one combination of profiles, by stage."""

    __slots__ = ("input", "output", "streamed", "stride_chars", "whole", "window_chars", "workers")

    def __init__(self, checks: tuple[Check, ...], window_chars: int, workers: Workers) -> None:
        self.workers = workers
        self.input = tuple(check for check in checks if "input" in check.entry.stages)
        # A guard of either kind holds for both kinds of answer, or a caller could get round it by asking for the other.
        self.output = tuple(check for check in checks if {"output", "stream"} & set(check.entry.stages))
        self.streamed = tuple(check for check in self.output if "stream" in check.entry.stages)
        self.whole = tuple(check for check in self.output if "stream" not in check.entry.stages)
        self.window_chars = window_chars
        cheap = all(check.inline for check in self.streamed)
        self.stride_chars = window_chars // _LOOKS if cheap else window_chars


class Guarding:
    """A plan at work on one request. All methods raise GuardrailBlocked and GuardrailUnavailable."""

    __slots__ = ("_asking", "_exchange", "_plan")

    def __init__(self, plan: Plan, exchange: Exchange, asking: Asking) -> None:
        self._plan = plan
        self._exchange = exchange
        self._asking = asking
        exchange.decisions = Decisions()

    async def check_input(self, call: Call) -> Call:
        """The request as it may go on. Raises InvalidParameter for token ids, which no guard can read."""
        if not self._plan.input:
            return call
        said = texts.of_call(call)
        cuts = await self._run(self._plan.input, said, "input")
        if cuts and call.body:  # multipart: it goes on as it came
            raise GuardrailBlocked(
                "a guardrail would have to redact this request, which a multipart body does not allow"
            )
        return texts.into_call(call, _changed(said, cuts)) if cuts else call

    async def check_output(self, answer: Answer) -> Answer:
        """A whole answer as it may go out; its counts stay, as it was generated."""
        if not self._plan.output:
            return answer
        said = texts.of_answer(answer)
        cuts = await self._run(self._plan.output, said, "output")
        return texts.into_answer(answer, _changed(said, cuts)) if cuts else answer

    def stream(self) -> Passage:
        """What a stream passes through after its meter."""
        plan = self._plan
        if not plan.output:
            return UNGUARDED

        async def window(said: list[Said]) -> list[Cut]:
            return await self._run(plan.streamed, said, "stream")

        async def whole(said: list[Said]) -> list[Cut]:
            return await self._run(plan.whole, said, "output")

        return StreamGuard(
            window=window if plan.streamed else None,
            whole=whole if plan.whole else None,
            window_chars=plan.window_chars,
            stride_chars=plan.stride_chars,
        )

    async def _run(self, checks: tuple[Check, ...], said: list[Said], stage: Stage) -> list[Cut]:
        decisions = self._exchange.decisions
        if decisions is None:
            decisions = self._exchange.decisions = Decisions()
        context = Context(stage, decisions, lambda: self._asking(self._exchange))
        return await run(checks, said, context, self._plan.workers)


def _check(profile: str, entry: GuardEntry) -> Check:
    """A profile made elsewhere may ask for what this gateway has not: then its `on_error` decides, request by request."""
    try:
        return Check(profile, entry, check_entry(entry))
    except ConfigurationError as error:
        log.warning("guard_cannot_work", profile=profile, kind=entry.kind, reason=error.message)
        return Check(profile, entry, None, broken=error.message)


def _missing(profile: str) -> Check:
    """A route or key names a profile that the snapshot has not: nothing passes, rather than everything."""
    entry = GuardEntry(kind="missing", stages=("input", "output", "stream"))
    return Check(profile, entry, None, broken=f"the guardrail profile '{profile}' does not exist")


def _changed(said: list[Said], cuts: list[Cut]) -> dict[Place, str]:
    spans: dict[int, list[tuple[int, int, str]]] = {}
    for cut in cuts:
        spans.setdefault(cut.text, []).append((cut.start, cut.end, cut.label))
    return {said[number].place: texts.redacted(said[number].text, found) for number, found in spans.items()}
