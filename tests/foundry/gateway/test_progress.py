"""Open streams are on disk while they run, and nothing of them is when they have ended."""

# Private names: drafts are read as `settle` reads them.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from foundry.gateway import progress
from foundry.metrics import open_streams
from foundry.metrics.open_streams import OpenStreams
from foundry.types.usage import UsageRecord
from tests.foundry.gateway.conftest import Rig

MakeRig = Callable[..., Awaitable[Rig]]
SAYS = [{"role": "user", "content": "hi"}]


def _drafts(made: Rig) -> list[UsageRecord]:
    (path,) = (made.home.path / "spool" / "gw-1").glob(f"*{open_streams.SUFFIX}")
    with path.open("rb") as file:
        return open_streams._drafts(file.fileno())


async def _open(made: Rig, model: str, ticks: int) -> list[UsageRecord]:
    """The drafts while a stream runs, after some renewals."""
    async with made.client() as client:
        body: dict[str, Any] = {"model": model, "messages": SAYS, "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            seen = 0
            while seen < 5:
                seen += '"content":"w' in await anext(lines)
            for _ in range(ticks):
                made.gateway.progress.tick()
            return _drafts(made)


@pytest.mark.parametrize(("model", "source"), [("own-endless", "partial"), ("vendor-endless", "estimated")])
async def test_a_renewed_draft_holds_what_the_caller_has_seen(rig: MakeRig, model: str, source: str) -> None:
    made = await rig()
    (draft,) = await _open(made, model, ticks=2)
    assert draft.output_tokens >= 4  # the first event of an estimate is not counted
    assert (draft.usage_source, draft.route, draft.streamed) == (source, model, True)
    assert draft.cost_usd
    async with asyncio.timeout(5):
        while len(made.gateway.progress):
            await asyncio.sleep(0.01)  # poll: bounded by the timeout above
    assert _drafts(made) == []
    (record,) = made.records()
    assert (record["id"], record["outcome"]) == (draft.id, "aborted")
    assert record["output_tokens"] >= draft.output_tokens


async def test_whole_answers_are_never_open(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await rig()
    monkeypatch.setattr(OpenStreams, "begin", None)
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json={"model": "own-ok", "messages": SAYS})
    assert answer.status_code == 200


async def test_a_tick_renews_a_bounded_number_by_turns(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PER_TICK", 1)
    monkeypatch.setattr(progress, "TICK_S", 3600.0)
    made = await rig()
    both = [asyncio.create_task(_open(made, "own-endless", ticks=0)) for _ in range(2)]
    async with asyncio.timeout(5):
        while len(made.gateway.progress) < 2:
            await asyncio.sleep(0)  # poll: bounded by the timeout above
    renewed: set[int] = set()
    real = made.gateway.progress._renew

    def renew(opened: progress.OpenStream) -> None:
        renewed.add(opened.slot)
        real(opened)

    monkeypatch.setattr(made.gateway.progress, "_renew", renew)
    for _ in range(4):
        for opened in made.gateway.progress._open.values():
            opened.told_bytes = -1
        before = len(renewed)
        made.gateway.progress.tick()
        assert len(renewed) <= before + 1
    assert len(renewed) == 2
    await asyncio.gather(*both)


async def test_no_head_goes_out_that_is_not_on_disk(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await rig()

    def full(_self: OpenStreams, _draft: UsageRecord) -> int:
        raise open_streams.SpoolFull("the disk is full", retry_after_s=5.0)

    monkeypatch.setattr(OpenStreams, "begin", full)
    async with made.client() as client:
        body = {"model": "own-ok", "messages": SAYS, "stream": True}
        answer = await client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "spool_full")
    assert [record["status"] for record in made.records()] == [503]
