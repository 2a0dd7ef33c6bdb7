"""Puts one supervisor together: lock, leftovers, ports, secrets, services, signals.

What it does not know: what happens while it runs (`supervisor.py`), or who waits for it (`start.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from foundry.errors import FoundryError
from foundry.local import instance as instances
from foundry.local import ports, registration, secrets, sweep
from foundry.local.files import try_lock
from foundry.local.instance import Instance
from foundry.local.services import table
from foundry.local.state import PlatformState
from foundry.local.supervisor import Supervisor
from foundry.local.watch import watch

ALREADY_RUNNING = 75
"""Exit status when another supervisor holds the instance (EX_TEMPFAIL)."""


def supervise(arguments: Sequence[str] | None = None) -> int:
    """Parse, prepare, run until SIGTERM or SIGINT; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m foundry.local.supervisor", description="Supervise one instance."
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--no-models", action="store_true")
    parser.add_argument("--model", action="append", default=[])
    options = parser.parse_args(arguments)
    os.chdir("/")
    instance = instances.load_or_create(options.home)
    if try_lock(instance.layout.supervisor_lock) is None:
        sys.stderr.write(f"another supervisor runs the instance in {options.home}\n")
        return ALREADY_RUNNING
    try:
        claims = ports.PortClaims()
        supervisor = prepare(instance, claims, models=not options.no_models, model_uris=tuple(options.model))
        asyncio.run(_run(supervisor))
    except FoundryError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return 1
    finally:
        remove_temp_dir(instance)
    return 0


def prepare(
    instance: Instance, claims: ports.PortClaims, *, models: bool, model_uris: tuple[str, ...]
) -> Supervisor:
    """Heal what a killed predecessor left, find ports, make secrets; the supervisor, not yet running."""
    started_at = time.time()
    leftovers = sweep.end(sweep.find(instance))
    remove_temp_dir(instance)
    chosen, reasons = ports.find(instance.id, instance.ports, claims)
    if chosen != instance.ports:
        instance = msgspec.structs.replace(instance, ports=chosen)
        instance.save()
    layout = instance.layout
    secrets.ensure(layout.secrets)
    secrets.write_database_url(layout.secrets, chosen.postgres)
    instance.temp_dir.mkdir(mode=0o700)
    (instance.temp_dir / "h").mkdir(mode=0o700)
    wanted = registration.wanted(layout, models=models, model_uris=model_uris)
    state = PlatformState(
        instance_id=instance.id,
        supervisor_pid=os.getpid(),
        started_at=started_at,
        ports=chosen.named(),
        notes=[*reasons, *(f"ended a leftover: {line}" for line in leftovers)],
    )
    return Supervisor(instance, table(instance, wanted), state)


def remove_temp_dir(instance: Instance) -> None:
    """Delete Ray's session folder; its logs are kept in `<home>/logs/ray-last`, for whoever asks why it went wrong."""
    logs = instance.temp_dir / "session_latest" / "logs"
    kept = instance.layout.logs / "ray-last"
    if logs.is_dir():
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(logs.resolve(), kept, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    shutil.rmtree(instance.temp_dir, ignore_errors=True)


async def _run(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    await supervisor.run(lambda it: asyncio.ensure_future(watch(it)))
    ended = sweep.end(sweep.find(supervisor.instance))
    for line in ended:
        sys.stdout.write(f"swept {line}\n")
