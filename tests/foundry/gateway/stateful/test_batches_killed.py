"""A replica is killed with SIGKILL in the middle of a batch; another carries on: no finished line runs again, none is lost."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from foundry.gateway.stateful.batches.folder import Batches
from foundry.gateway.stateful.objects import Objects
from foundry.types.batch import Batch, BatchOwner
from tests.foundry.gateway.conftest import behaviour_routes
from tests.foundry.gateway.stateful.test_batches import jsonl, line, read, until
from tests.support.instance import Home
from tests.support.scripted_upstream import ScriptedUpstream

ROOT = Path(__file__).parents[4]
LINES, CONCURRENCY = 400, 4
SETTINGS: dict[str, Any] = {"batch_poll_s": 0.1, "batch_lease_s": 1.0, "batch_concurrency": CONCURRENCY}


@asynccontextmanager
async def _gateway(home: Home, gateway_id: str) -> AsyncGenerator[tuple[str, asyncio.subprocess.Process]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.gateway_process", str(home.path), gateway_id, json.dumps(SETTINGS),
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    url = b""
    while not url.startswith(b"http"):  # its log lines come on the same pipe
        url = await process.stdout.readline()
        assert url, "the gateway died at its start"
    drain = asyncio.create_task(process.stdout.read())
    try:
        yield url.decode().strip(), process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await drain


@pytest.mark.chaos
async def test_a_killed_replicas_batch_is_carried_on(tmp_path: Path) -> None:
    home, upstream = Home.make(tmp_path / "home"), ScriptedUpstream()
    await upstream.start()
    key, entry = home.key()
    home.write_snapshot([entry], behaviour_routes(upstream.url))
    async with _gateway(home, "gw-1") as (url, process):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
            content = jsonl([line(f"c{i}") for i in range(LINES)])
            file = await client.files.create(file=("in", content), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            async with asyncio.timeout(30):
                while len(upstream.requests) < 60:
                    await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
    folder = Batches(Objects.open(home.settings())).folder("proj_1", batch.id)
    finished = {result.number - 1 async for result in folder.results()}
    asked_before = Counter(body["messages"][0]["content"] for _, body in upstream.requests)
    assert finished
    async with (
        _gateway(home, "gw-2") as (url, _),
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=3, timeout=20) as client,
    ):
        done = await until(client, batch.id, "completed")
        output = await read(client, done.output_file_id)
    asked = Counter(body["messages"][0]["content"] for _, body in upstream.requests)
    assert set(output) == {f"c{i}" for i in range(LINES)}
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed) == (LINES, LINES)
    assert all(asked[f"c{number}"] == asked_before[f"c{number}"] == 1 for number in finished)
    assert sum(asked.values()) - LINES <= 2 * CONCURRENCY
    await upstream.stop()


async def test_of_two_replicas_one_runs_a_batch_and_the_other_carries_on(tmp_path: Path) -> None:
    """The claim itself, without processes: a generation has one holder, and the newest state counts."""
    objects = Objects.open(Home.make(tmp_path / "home").settings())
    batches = Batches(objects)
    batch = Batch(
        id="batch_1",
        endpoint="/v1/chat/completions",
        input_file_id="file-1",
        status="validating",
        created_at=1,
        expires_at=2,
    )
    await batches.add(batch, BatchOwner(project_id="p", key_id="k", key_hash="h"))
    [folder] = await batches.open()
    assert await folder.lease() == (0, b"released")
    assert (await folder.claim(1, b"a"), await folder.claim(1, b"b")) == (True, False)
    assert await folder.lease() == (1, b"a")
    assert await folder.claim(2, b"c")
    newer = msgspec.structs.replace(batch, status="in_progress")
    await folder.save(newer, 2)
    await folder.save(batch, 1)  # the old holder does not know yet that it is not the holder
    assert await folder.stored() == newer
    await folder.cancel(7)
    await folder.cancel(9)
    shown = await folder.load()
    assert shown is not None
    assert (shown.status, shown.cancelling_at) == ("cancelling", 7)
    await batches.done("batch_1")
    assert await batches.open() == []
