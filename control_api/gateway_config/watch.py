"""Watches the configuration file: looks every second, and checks and applies it when it changed.

One of several API processes does it (an advisory lock). A file with an error changes nothing: the last good one stays in
force, the errors are logged and at `GET /v1/gateway/config`. What it does not know: what a file may say.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.gateway_config import service
from control_api.gateway_config.service import Seen
from control_api.kit.changes import Topic
from control_api.kit.leader import Leadership
from control_api.kit.runtime import Runtime
from foundry.declare.check import Checked, check
from foundry.located import Problem

log = structlog.get_logger(__name__)
LOOK_EVERY_S = 1.0
Fingerprint = tuple[int, int, int] | None


class ConfigWatch:
    """The watcher of one process. Run `run()` as a task."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._cluster = runtime.settings.gateway.cluster
        self._path = runtime.settings.config_file
        self._known: tuple[Fingerprint, int] | None = None
        self._waits_for_deployments = False
        self._settings: dict[str, object] | None = None

    async def run(self) -> None:
        """Until cancelled: keep what is in force equal to the file."""
        leadership = Leadership(self._runtime.database.url, f"foundry-gateway-file-{self._cluster}")
        try:
            while True:
                try:
                    if await leadership.held():
                        await self.look()
                    else:
                        self._known = None  # another process may have applied another file meanwhile
                except (SQLAlchemyError, psycopg.Error, OSError) as error:
                    self._known = None
                    log.warning("gateway_config_not_looked_at", path=str(self._path), error=str(error))
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await leadership.release()

    async def look(self) -> None:
        """Apply the file if it differs from what was last looked at, or if a deployment that it waits for may be there."""
        desired = self._runtime.changes.signal(Topic.DESIRED).count if self._waits_for_deployments else 0
        known = await asyncio.to_thread(fingerprint, self._path), desired
        if known == self._known:
            return
        seen = Seen(str(self._path), await asyncio.to_thread(_content, self._path))
        if seen.content is None:
            async with self._runtime.database.write() as session:
                await service.missing(session, self._cluster, seen.path)
        else:
            await self._take(seen, seen.content)
        waiting = self._runtime.changes.signal(Topic.DESIRED).count if self._waits_for_deployments else 0
        self._known = known[0], waiting

    async def _take(self, seen: Seen, content: bytes) -> None:
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            await self._reject(seen, [Problem((), f"this is not UTF-8: {error}")])
            return
        async with self._runtime.database.read() as session:
            there = await service.known_deployments(session)
        checked = await asyncio.to_thread(check, text, deployments=there)
        self._waits_for_deployments = any(problem.severity == "warning" for problem in checked.problems)
        if not checked.ok:
            await self._reject(seen, checked.problems)
            return
        checked = self._with_settings(checked)
        async with self._runtime.database.write() as session:
            warnings = await service.apply(session, self._cluster, seen, checked)
        log.info(
            "gateway_config_applied", path=seen.path, warnings=[one.render(seen.path) for one in warnings]
        )

    async def _reject(self, seen: Seen, problems: list[Problem] | tuple[Problem, ...]) -> None:
        async with self._runtime.database.write() as session:
            await service.reject(session, self._cluster, seen, problems)
        for problem in problems:
            log.error("gateway_config_rejected", problem=problem.render(seen.path))

    def _with_settings(self, checked: Checked) -> Checked:
        """Warn of settings that changed since this process read them: they are read once."""
        if self._settings is None:
            self._settings = checked.settings
        names = {*checked.settings, *self._settings}
        changed = sorted(name for name in names if checked.settings.get(name) != self._settings.get(name))
        words = "a setting changed: it takes effect when the processes are started anew"
        found = tuple(Problem((name,), words, severity="warning") for name in changed)
        return Checked(checked.gateway, checked.settings, checked.problems + found)


def fingerprint(path: Path) -> Fingerprint:
    """What changes when a file is saved or replaced; None when there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
