"""Malformed requests to every endpoint, and garbage from every upstream: no 500, one record each, nothing that hangs or stays.

The share in `make check` is small; `make test` sends 20,000. A seed gives the same requests again: a failure prints its case.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.gateway import fuzz_requests, fuzz_rig
from tests.gateway.fuzz_rig import ENVIRONMENT, Case, Rig

Runner = asyncio.Runner


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with Runner() as made:
        yield made


async def _storm(folder: Path, seed: str, count: int) -> None:
    async with fuzz_rig.rig(folder, fuzz_rig.right_answer) as rig:
        table = fuzz_requests.table(rig.gateway.surface)
        before = rig.tasks()
        for number in range(count):
            row = table[number % len(table)]
            await rig.send(fuzz_requests.mutated(Random(f"{seed}-{number}"), rig, row))
        assert rig.upstream.asked > count / 20, "hardly any request got through to a target"
        await _nothing_left(rig, before)


async def _nothing_left(rig: Rig, before: dict[str, int]) -> None:
    async with asyncio.timeout(10):
        while set(rig.tasks()) - set(before):
            await asyncio.sleep(0.05)  # poll: bounded by the timeout above
    assert len(rig.gateway.progress) == 0
    assert rig.gateway._in_flight == 0


def test_malformed_requests(tmp_path: Path, runner: Runner) -> None:
    runner.run(_storm(tmp_path, "check", 1500))


@pytest.mark.chaos
def test_twenty_thousand_malformed_requests(tmp_path: Path, runner: Runner) -> None:
    runner.run(_storm(tmp_path, "test", 20_000))
