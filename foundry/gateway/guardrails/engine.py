"""Runs the checks of one stage over texts: all in parallel, each with its own threshold, timeout, action and fail mode.

What it does not know: where the texts come from and go to (`texts.py`, `streams.py`), which profiles apply (`compiled.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from foundry.errors import FoundryError, GuardrailUnavailable
from foundry.gateway.guardrails.base import AskRoute, Finding, Guard, RouteGuard, Said
from foundry.gateway.guardrails.decisions import Acted, Decision, Decisions, labels_of, refusal
from foundry.gateway.guardrails.workers import Workers
from foundry.types.guardrails import GuardEntry, Stage

log = structlog.get_logger()


class Check:
    """One guard of one profile, ready to be asked.

    guard: None for one that lives in the worker process, or that could not be made (`broken` says why).
    """

    __slots__ = ("broken", "entry", "guard", "inline", "options_json", "profile", "roles", "where")

    def __init__(self, profile: str, entry: GuardEntry, kind: type[Guard] | None, broken: str = "") -> None:
        self.profile = profile
        self.entry = entry
        self.broken = broken
        self.guard: Guard | None = None
        self.where = kind.where if kind is not None else "inline"
        self.options_json = msgspec.json.encode(entry.options).decode()
        self.roles: frozenset[str] | None = None
        if kind is not None:
            options = kind.options_of(entry.options)
            self.roles = frozenset(options.roles) if options.roles is not None else None
            if self.where != "worker":
                self.guard = kind(options)
        self.inline = self.where == "inline"

    def made(self, stage: Stage, action: Acted, found: Sequence[Finding], ms: float) -> Decision:
        """The decision that follows from findings."""
        labels = labels_of(hit.label for hit in found)
        score = max((hit.score for hit in found), default=0.0)
        return Decision(self.profile, self.entry.kind, stage, action, labels, round(score, 4), round(ms, 3))


class Context(msgspec.Struct, frozen=True):
    """What a run of checks needs of one request."""

    stage: Stage
    decisions: Decisions
    ask_route: Callable[[], AskRoute]
    """Makes the asker of this request; its cost goes on this request's key."""


class Cut(msgspec.Struct, frozen=True, order=True):
    """A span to replace in one of the texts."""

    text: int
    start: int
    end: int
    label: str


async def run(checks: Sequence[Check], said: Sequence[Said], context: Context, workers: Workers) -> list[Cut]:
    """Ask every check. Returns what to redact. Raises GuardrailBlocked, GuardrailUnavailable; the cheap checks come first, so
    that nobody else is asked about what they refuse."""
    cuts: list[Cut] = []
    waiting: list[tuple[Check, list[int]]] = []
    for check in checks:
        picked = _picked(check, said)
        if not picked:
            continue
        if check.inline:
            _act(check, _inline(check, said, picked, context), picked, cuts, context)
        else:
            waiting.append((check, picked))
    if waiting:
        asked = [_timed(check, [said[n].text for n in picked], context, workers) for check, picked in waiting]
        answers = await asyncio.gather(*asked)
        for (check, picked), answer in zip(waiting, answers, strict=True):
            _act(check, answer, picked, cuts, context)
    return cuts


class _Answer(msgspec.Struct, frozen=True):
    found: list[Finding]
    ms: float
    error: FoundryError | None = None


def _picked(check: Check, said: Sequence[Said]) -> list[int]:
    roles = check.roles
    if roles is None:
        return list(range(len(said)))
    return [number for number, text in enumerate(said) if text.role in roles]


def _inline(check: Check, said: Sequence[Said], picked: list[int], context: Context) -> _Answer:
    del context
    began = time.perf_counter_ns()
    if check.guard is None:
        return _Answer([], 0.0, GuardrailUnavailable(check.broken))
    found = check.guard.inspect([said[number].text for number in picked])
    return _Answer(found, (time.perf_counter_ns() - began) / 1e6)


async def _timed(check: Check, texts: list[str], context: Context, workers: Workers) -> _Answer:
    began = time.perf_counter_ns()
    try:
        found = await _ask(check, texts, context, workers)
    except (FoundryError, TimeoutError) as error:
        ms = (time.perf_counter_ns() - began) / 1e6
        if isinstance(error, FoundryError):
            return _Answer([], ms, error)
        return _Answer([], ms, GuardrailUnavailable(f"no answer within {check.entry.timeout_s:g} s"))
    return _Answer(found, (time.perf_counter_ns() - began) / 1e6)


async def _ask(check: Check, texts: list[str], context: Context, workers: Workers) -> list[Finding]:
    guard, entry = check.guard, check.entry
    if (
        guard is None
    ):  # the worker keeps the time itself: loading a library for the first time is not the request's fault
        return await workers.ask(entry.kind, check.options_json, texts, entry.timeout_s)
    async with asyncio.timeout(entry.timeout_s):
        if not isinstance(guard, RouteGuard):
            return await workers.run(lambda: guard.inspect(texts))
        return await guard.ask(texts, context.ask_route())


def _act(check: Check, answer: _Answer, picked: list[int], cuts: list[Cut], context: Context) -> None:
    if answer.error is not None:
        _failed(check, answer, context)
        return
    threshold = check.entry.threshold
    found = [hit for hit in answer.found if hit.score >= threshold]
    if not found:
        return
    made = check.made(context.stage, check.entry.action, found, answer.ms)
    context.decisions.add(made)
    if check.entry.action == "block":
        raise refusal(made)
    if check.entry.action == "redact":
        cuts += [Cut(picked[hit.text], hit.start, hit.end, hit.label) for hit in found]


def _failed(check: Check, answer: _Answer, context: Context) -> None:
    """Let pass or refuse, as the profile says; recorded and logged either way."""
    closed = check.entry.on_error == "closed"
    context.decisions.add(
        check.made(context.stage, "error_closed" if closed else "error_open", [], answer.ms)
    )
    reason = answer.error.message if answer.error else ""
    log.warning("guard_failed", profile=check.profile, kind=check.entry.kind, reason=reason, closed=closed)
    if closed:
        raise GuardrailUnavailable(
            f"guardrail profile '{check.profile}' ({check.entry.kind}) cannot be asked at present, and nothing passes without it",
            retry_after_s=1.0,
        ) from answer.error
