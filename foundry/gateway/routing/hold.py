"""Requests that come while their engine is still starting: they wait for the snapshot that says it is ready.

Each new snapshot wakes them; nothing polls. Somebody who starts engines on demand is told through `wake`. What it does not
know: engines, how a caller is told (`Ask.say`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from foundry.errors import DeploymentNotReady, ModelNotFound, QueueFull
from foundry.gateway.routing.asking import Ask
from foundry.gateway.routing.plan import Board, Plan
from foundry.gateway.routing.targets import Candidate
from foundry.gateway.snapshot import Index, SnapshotStore
from foundry.gateway.upstream import DEFAULT_RETRY_AFTER_S
from foundry.types.snapshot import EngineTarget

log = structlog.get_logger()

KEEP_ALIVE_S = 10.0
"""Longest silence towards a caller who asked to be told; proxies give up idle connections after 30 s and more."""

Wake = Callable[[str], None]
"""Called with a deployment's name at each request that lacks it, whether that will wait or not. It must not block."""


class Holder:
    """Where requests wait for engines; one per gateway replica."""

    def __init__(self, snapshots: SnapshotStore, board: Board) -> None:
        self._snapshots = snapshots
        self._board = board
        self.wake: Wake = _nobody
        """Assign to start engines on demand."""

    def want(self, plan: Plan) -> None:
        """A request lacks the route's engines: have them started, whatever becomes of it."""
        for candidate in plan.starting:
            self.wake(candidate.upstream.deployment)

    async def until_ready(self, ask: Ask, plan: Plan) -> tuple[Index, Plan]:
        """The first snapshot in which a target of the route can be asked. Raises DeploymentNotReady at once if the caller or
        the route will not wait, and at the deadline; QueueFull."""
        hold, memory, starting = plan.routing.hold, plan.memory, plan.starting
        self.want(plan)
        if not ask.wait.willing or not hold.max_waiting:
            raise _not_ready(starting)
        if memory.held >= hold.max_waiting:
            raise QueueFull(
                f"{memory.held} requests wait for '{plan.name}' to start already",
                retry_after_s=_eta_s(starting) or DEFAULT_RETRY_AFTER_S,
            )
        now = asyncio.get_running_loop().time()
        if ask.held_until is None:
            wish_s = ask.wait.at_most_s
            ask.held_until = now + (hold.deadline_s if wish_s is None else min(wish_s, hold.deadline_s))
        memory.held += 1
        progress = _Progress(starting)
        try:
            async with asyncio.timeout_at(ask.held_until):
                return await self._watch(ask, plan, progress)
        except TimeoutError as error:
            raise _not_ready(progress.starting) from error
        finally:
            memory.held -= 1

    async def _watch(self, ask: Ask, plan: Plan, progress: _Progress) -> tuple[Index, Plan]:
        index = self._snapshots.current()
        while True:
            route = index.routes.get(plan.name)
            if route is None:
                raise ModelNotFound(
                    f"the model '{plan.name}' was removed while its engine started", param="model"
                )
            plan = self._board.plan(index, route)
            if not plan.starting:
                return index, plan
            progress.starting = plan.starting
            index = await self._newer(ask, index.version, progress)

    async def _newer(self, ask: Ask, version: int, progress: _Progress) -> Index:
        """The next snapshot; meanwhile the caller is kept informed, if that was asked for."""
        if ask.say is None:
            return await self._snapshots.newer(version)
        coming = asyncio.ensure_future(self._snapshots.newer(version))
        try:
            while True:
                await ask.say(_words(progress.starting))
                done, _ = await asyncio.wait([coming], timeout=KEEP_ALIVE_S)
                if done:
                    return coming.result()
        finally:
            coming.cancel()


def _nobody(deployment: str) -> None:
    log.debug("request_waits_for_engine", deployment=deployment)


class _Progress:
    """Which engines are still starting, as of the newest snapshot."""

    __slots__ = ("starting",)

    def __init__(self, starting: Sequence[Candidate]) -> None:
        self.starting = starting


def _eta_s(starting: Sequence[Candidate]) -> float | None:
    known = [one.upstream.target.eta_s for one in starting if isinstance(one.upstream.target, EngineTarget)]
    return min((eta for eta in known if eta is not None), default=None)


def _not_ready(starting: Sequence[Candidate]) -> DeploymentNotReady:
    error = starting[0].blocked if starting else None
    if isinstance(error, DeploymentNotReady):
        return DeploymentNotReady(error.message, retry_after_s=_eta_s(starting) or DEFAULT_RETRY_AFTER_S)
    return DeploymentNotReady("no engine of this model is ready", retry_after_s=DEFAULT_RETRY_AFTER_S)


def _words(starting: Sequence[Candidate]) -> str:
    """One line for a person, e.g. "waiting for smollm2, loading, ready in about 40 s"."""
    target = starting[0].upstream.target
    if not isinstance(target, EngineTarget):
        return "waiting"
    eta = _eta_s(starting)
    ready = "" if eta is None else f", ready in about {eta:.0f} s"
    return f"waiting for {target.deployment}, {target.phase.value}{ready}"
