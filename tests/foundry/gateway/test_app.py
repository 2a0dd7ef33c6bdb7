"""The app around the lifecycle: what it does when usage cannot be kept, when we are wrong, and how it says that it is well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from foundry.errors import SpoolFull
from foundry.gateway.exchange import Exchange
from foundry.gateway.lifecycle import Lifecycle
from tests.foundry.gateway.conftest import Rig

MakeRig = Callable[..., Awaitable[Rig]]


def _chat(model: str, *, stream: bool = False) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": stream}


async def test_a_full_spool_stops_serving_instead_of_serving_unmetered(rig: MakeRig) -> None:
    made = await rig(spool_max_bytes=1024 * 1024)
    filler = Exchange("unknown", None).record(cluster="x" * 10_000, gateway="gw-1")
    while made.gateway.spool.has_room():
        made.gateway.spool.append(filler)
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat("own-ok"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "spool_full")
    assert "retry-after" in answer.headers
    assert not made.upstream.requests


@pytest.mark.parametrize("stream", [False, True])
async def test_a_record_that_cannot_be_written_fails_the_answer(
    rig: MakeRig, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await rig()

    def full(_: object) -> None:
        raise SpoolFull("the disk is full")

    monkeypatch.setattr(made.gateway.spool, "append", full)
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat("own-ok", stream=stream))
    assert "spool_full" in answer.text
    assert "[DONE]" not in answer.text
    assert answer.status_code == (200 if stream else 503)


async def test_a_bug_of_ours_is_told_and_recorded_as_such(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await rig()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Lifecycle, "_resolve", broken)
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat("own-ok"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    [record] = made.records()
    assert (record["outcome"], record["error_code"], record["status"]) == ("rejected", "internal_error", 500)


async def test_health_says_what_is_served(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()["snapshot_version"]) == (200, 1)
    assert not made.records()
