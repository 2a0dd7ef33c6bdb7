"""The supervisor: one process per instance that owns all children of the local platform.

It starts each service when its dependencies are ready, restarts what dies with exponential back-off, and tells `state.json`. On SIGTERM it
stops everything in order. At rest it only waits: one wake-up every fifteen seconds. The CLI talks to it through signals
and that file alone, so Ctrl-C in the CLI changes nothing here.
What it does not know: what the services are (`services.py`), how readiness of applications is seen (`watch.py`), how it is shown.

Run: `python -m foundry.local.supervisor --home DIR [--no-models] [--model URI ...]` (`foundry up` does it, detached).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence

from foundry.local import sweep
from foundry.local.instance import Instance
from foundry.local.process import Child, ended, rotate
from foundry.local.services import Service
from foundry.local.state import SETTLED, PlatformState, ServicePhase, ServiceState, write

BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
HEALTHY_AFTER_S = 60.0
"""A service that ran this long starts over with the first back-off."""
GIVEN_UP_AFTER = 3
"""Failures before its first answer, after which a service counts as failed. It is still tried again, at the longest back-off."""
PROBE_INTERVAL_S = 0.2
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%")
"""How a task tells its progress: the last line that it wrote has a percentage."""
REST_S = 15.0
"""Time between two looks while nothing happens."""


class Supervised:
    """One service and its present child."""

    def __init__(self, service: Service, tell: Callable[[], None]) -> None:
        self.service = service
        self.state = ServiceState(
            name=service.name, kind=service.kind, detail=service.detail, since=time.time()
        )
        self.settled = asyncio.Event()
        """Set while it is ready (or done)."""
        self.ended = asyncio.Event()
        """Set when it has been stopped for good."""
        self.child: Child | None = None
        self._failures = 0
        self._tell = tell

    def enter(self, phase: ServicePhase, detail: str | None = None) -> None:
        """Move to a phase and tell it."""
        if phase != self.state.phase:
            self.state.since = time.time()
        self.state.phase = phase
        self.state.detail = self.service.detail if detail is None else detail
        if phase in SETTLED:
            self.settled.set()
        else:
            self.settled.clear()
        self._tell()

    async def run(self, instance: Instance, needs: Sequence[Supervised]) -> None:
        """Start it when its dependencies are ready; again whenever it ends; until cancelled."""
        self.state.started_at = time.time()
        for needed in needs:
            await needed.settled.wait()
        while True:
            status, healthy_s = await self._run_once(instance)
            if self.service.kind == "task" and status == 0:
                self.enter("done")
                return
            delay_s = self.failed(status, healthy_s)
            await asyncio.to_thread(self._end_leftovers, instance)
            await asyncio.sleep(delay_s)

    async def _run_once(self, instance: Instance) -> tuple[int, float]:
        """Exit status, and for how many seconds it was ready."""
        self.enter("starting")
        began = self.state.started_at if self._failures == 0 and self.state.started_at else time.time()
        self.state.started_at, self.state.retry_at = began, None
        log = instance.layout.log(self.service.name)
        service = self.service
        self.child = child = await Child.start(service.command, service.env, log, niceness=service.niceness)
        self.state.pid = child.pid
        self._tell()
        probing = asyncio.create_task(self._until_ready(child))
        ready_at = time.monotonic()
        probing.add_done_callback(lambda task: None if task.cancelled() else self._became_ready())
        try:
            status = await child.wait()
        finally:
            was_ready = probing.done()
            probing.cancel()
        self.child, self.state.pid = None, None
        self.state.last_log_line = child.last_line()
        return status, time.monotonic() - ready_at if was_ready else 0.0

    def _became_ready(self) -> None:
        if self.service.kind == "process" and self.child is not None and self.child.status is None:
            self.state.ready_after_s = round(time.time() - (self.state.started_at or time.time()), 1)
            self.enter("ready")

    async def _until_ready(self, child: Child) -> None:
        if self.service.kind == "task":
            await child.wait()
            return
        probe = self.service.probe
        while probe is not None:
            if await asyncio.to_thread(probe.ready, child.log, child.log_offset):
                return
            await asyncio.sleep(PROBE_INTERVAL_S)

    def failed(self, status: int, healthy_s: float) -> float:
        """Note the end; seconds until the next try."""
        self._failures = 1 if healthy_s >= HEALTHY_AFTER_S else self._failures + 1
        self.state.restarts += 1
        never_ready = self.state.ready_after_s is None
        given_up = never_ready and self._failures >= GIVEN_UP_AFTER
        delay_s = (
            BACKOFF_MOST_S if given_up else min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** (self._failures - 1))
        )
        self.state.retry_at = time.time() + delay_s
        self.enter("failed" if given_up else "backoff", f"{ended(status)}; tried again in {delay_s:g} s")
        return delay_s

    def _end_leftovers(self, instance: Instance) -> None:
        """What a dead child left running (HAProxy, engine processes) would hold its ports."""
        sweep.end(sweep.find(instance, service=self.service.name), patience_s=3.0)

    async def stop(self) -> None:
        """End the child for good."""
        if self.child is not None:
            self.enter("stopping")
            await self.child.stop(self.service.stop_timeout_s)
            self.child, self.state.pid = None, None
        if self.state.phase != "done":
            self.enter("stopped")
        self.ended.set()


class Supervisor:
    """All services of one instance. `run` returns when `stop` was called and everything has ended."""

    def __init__(self, instance: Instance, services: Sequence[Service], state: PlatformState) -> None:
        self.instance = instance
        self.state = state
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self.supervised = {row.name: Supervised(row, self._changed.set) for row in services}
        self.watched: list[ServiceState] = []
        """Lines that a watcher adds: the gateway and the deployments."""
        self.watch_settled = True
        """False while a watcher waits for something: the platform is not ready then."""

    def stop(self) -> None:
        """Begin to stop; safe in a signal handler of the loop."""
        self._stopping.set()

    def tell(self) -> None:
        """Have the state file written soon."""
        self._changed.set()

    async def run(self, watcher: Callable[[Supervisor], asyncio.Future[None]] | None = None) -> None:
        """Start, watch, and stop in order."""
        runs = [
            asyncio.create_task(one.run(self.instance, [self.supervised[name] for name in one.service.needs]))
            for one in self.supervised.values()
        ]
        background = [asyncio.ensure_future(watcher(self))] if watcher else []
        telling = asyncio.create_task(self._keep_telling())
        await self._stopping.wait()
        self.state.phase = "stopping"
        for task in (*background, *runs):
            task.cancel()
        await asyncio.gather(*background, *runs, return_exceptions=True)
        await asyncio.gather(*(self._stop_in_order(one) for one in self.supervised.values()))
        telling.cancel()
        self.state.phase = "stopped"
        self._write()

    async def _stop_in_order(self, one: Supervised) -> None:
        for name in one.service.stop_after:
            if name in self.supervised:
                await self.supervised[name].ended.wait()
        await one.stop()

    async def _keep_telling(self) -> None:
        """Write the state on every change, at most five times a second; look at logs while something is slow."""
        while True:
            rest_s = REST_S if self.state.phase in {"ready", "stopped"} else 1.0
            try:
                await asyncio.wait_for(self._changed.wait(), rest_s)
            except TimeoutError:
                for one in self.supervised.values():
                    rotate(self.instance.layout.log(one.service.name))
            self._changed.clear()
            self._refresh()
            self._write()
            await asyncio.sleep(0.2)

    def _refresh(self) -> None:
        for one in self.supervised.values():
            if one.child is not None and not one.settled.is_set():
                one.state.last_log_line = line = one.child.last_line()
                found = _PERCENT.search(line) if one.service.kind == "task" else None
                one.state.percent = min(100.0, float(found[1])) if found else None
        if self.state.phase == "stopping":
            return
        lines = [*(one.state for one in self.supervised.values()), *self.watched]
        if any(line.phase == "failed" for line in lines):
            self.state.phase = "failed" if self.state.ready_after_s is None else "degraded"
        elif self.watch_settled and all(line.phase in SETTLED for line in lines):
            self.state.phase = "ready"
            if self.state.ready_after_s is None:
                self.state.ready_after_s = round(time.time() - self.state.started_at, 1)
        else:
            self.state.phase = "starting" if self.state.ready_after_s is None else "degraded"

    def _write(self) -> None:
        self.state.updated_at = time.time()
        self.state.services = [*(one.state for one in self.supervised.values()), *self.watched]
        write(self.instance.layout.state_file, self.state)


def main(arguments: Sequence[str] | None = None) -> int:
    """Supervise one instance until SIGTERM; the exit status (75 when another supervisor has it already)."""
    from foundry.local.assembly import supervise

    return supervise(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
