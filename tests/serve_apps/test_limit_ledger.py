"""The ledger as a Ray actor: found by name, killed, made anew; what was spent stays spent."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import ray

from foundry.errors import LimitExceeded
from foundry.gateway.limits.limiter import Limiter
from foundry.settings import Settings
from serve_apps.limit_ledger import RayLedger
from tests.foundry.gateway.limits.cluster import binding, demand, limit, use

pytestmark = pytest.mark.chaos
ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    """A Ray of our own, in this process's care."""
    folder = tempfile.mkdtemp(prefix="lr", dir="/tmp")  # Ray's sockets need a short path
    await asyncio.to_thread(
        lambda: ray.init(
            num_cpus=2, include_dashboard=False, namespace="foundry", _temp_dir=folder, log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        )
    )  # fmt: skip
    yield Settings(home=tmp_path / "home")
    await asyncio.to_thread(ray.shutdown)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("no_restart", [False, True])
async def test_two_replicas_share_one_ledger_that_may_die(settings: Settings, no_restart: bool) -> None:
    bound = binding(limit("requests", 40, window="month"))
    limiters = [Limiter(RayLedger(settings), f"gw-{number}", wait_s=30) for number in (1, 2)]
    for limiter in limiters:
        limiter.start()

    async def ask(number: int) -> None:
        limiter = limiters[number % 2]
        held = limiter.try_reserve(bound, demand(1)) or await limiter.reserve(bound, demand(1))
        held.settle(use(1))

    for number in range(20):
        await ask(number)
    ledger = ray.get_actor("limit-ledger-local", namespace="foundry")
    ray.kill(ledger, no_restart=no_restart)
    for number in range(20):
        await ask(number)
    for number in (0, 1):
        with pytest.raises(LimitExceeded):
            await ask(number)
    for limiter in limiters:
        await limiter.stop()
