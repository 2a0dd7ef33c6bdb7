"""The database is restarted under a running application: 503 while it is away, none after, and signals flow again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from control_api.kit.changes import Topic
from foundry.local.postgres import Postgres, database_url
from tests.control_api.conftest import instance, running
from tests.control_api.test_snapshots import poll, settled
from tests.support.postgres import FAST, PASSWORD, postgres_home

pytestmark = pytest.mark.postgres


async def test_restart(tmp_path: Path, make_port: Callable[[], int]) -> None:
    with postgres_home() as home:
        postgres = Postgres(home, make_port(), PASSWORD, options=FAST)
        postgres.start()
        try:
            settings = instance(tmp_path / "home", database_url(PASSWORD, postgres.port), make_port())
            async with running(settings) as api:
                version = (await settled(api)).version
                postgres.stop()
                while api.runtime.changes.listening.is_set():
                    await asyncio.sleep(0.01)  # bounded poll: the test has a time limit
                away = await api.client.get("/v1/keys")
                assert (away.status_code, away.json()["code"]) == (503, "unavailable")
                assert int(away.headers["retry-after"]) >= 1
                assert (await api.client.get("/healthz")).status_code == 503
                seen = api.runtime.changes.signal(Topic.SNAPSHOT).count
                postgres.start()
                await asyncio.wait_for(api.runtime.changes.listening.wait(), 10)
                assert (
                    api.runtime.changes.signal(Topic.SNAPSHOT).count > seen
                )  # what was missed is looked for
                assert [(await api.client.get("/v1/keys")).status_code for _ in range(20)] == [200] * 20
                waiting = asyncio.create_task(poll(api, version, 10))
                await api.key("inference")
                assert await waiting is not None
        finally:
            postgres.stop()
