"""What `/healthz` tells an operator to look at: prices that nobody knows, a Valkey that is not there. It names nobody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.foundry.gateway.conftest import Rig

MakeRig = Callable[..., Awaitable[Rig]]


async def _health(made: Rig) -> dict[str, Any]:
    async with made.client() as client:
        return (await client.get("/healthz")).json()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cost_that_nobody_knows_is_logged_once_and_counted(rig: MakeRig, stream: bool) -> None:
    made = await rig(valkey_url="valkey://127.0.0.1:9/0")
    assert await _health(made) == {
        **await _health(made),
        "status": "ok",
        "unknown_prices": {"requests": 0, "targets": 0},
        "warnings": [],
    }
    body = {"model": "unpriced", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    with capture_logs() as logs:
        async with made.client() as client:
            answers = [await client.post("/v1/chat/completions", json=body) for _ in range(3)]
    assert all("x-foundry-cost-usd" not in answer.headers for answer in answers)
    assert [log["target"] for log in logs if log["event"] == "price_unknown"] == ["engine/ok"]
    assert {(record["price_status"], record["cost_usd"]) for record in made.records()} == {("unknown", None)}
    told = await _health(made)
    assert told["unknown_prices"] == {"requests": 3, "targets": 1}
    [warning] = told["warnings"]
    assert "1 target(s)" in warning
    assert "engine/ok" not in str(told)


async def test_a_cache_that_should_be_shared_and_is_not_is_told(rig: MakeRig) -> None:
    made = await rig()
    body = {"model": "cached-valkey", "messages": [{"role": "user", "content": "hello"}]}
    with capture_logs() as logs:
        async with made.client() as client:
            answers = [await client.post("/v1/chat/completions", json=body) for _ in range(3)]
    assert [answer.headers["x-foundry-cache"] for answer in answers] == ["miss", "hit", "hit"]
    assert len([log for log in logs if log["event"] == "cache_valkey_not_configured"]) == 1
    told = await _health(made)
    assert (told["status"], len(told["warnings"])) == ("ok", 1)
    assert "gateway.valkey_url is not set" in told["warnings"][0]
