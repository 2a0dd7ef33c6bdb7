"""Snapshots: what is refused, what survives a restart, and how newer ones arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from foundry.errors import SnapshotMissing
from foundry.gateway.signing import SnapshotRejected, sign
from foundry.gateway.snapshot import SnapshotStore, pull
from foundry.types.snapshot import SignedSnapshot, Snapshot

SIGNER = Ed25519PrivateKey.generate()


def _signed(version: int, *, cluster: str = "test", signer: Ed25519PrivateKey = SIGNER) -> SignedSnapshot:
    snapshot = Snapshot(cluster=cluster, version=version, issued_at=datetime.now(UTC), keys=(), routes=())
    return sign(snapshot, signer)


def _store(path: Path) -> SnapshotStore:
    return SnapshotStore(path / "s.json", cluster="test", public_key=SIGNER.public_key(), engine_token="t")


def test_nothing_is_served_before_the_first_snapshot(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.load()
    with pytest.raises(SnapshotMissing):
        store.current()


def test_a_restart_serves_the_last_good_one(tmp_path: Path) -> None:
    _store(tmp_path).accept(_signed(7))
    again = _store(tmp_path)
    again.load()
    assert again.version == 7
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        (_signed(4), "older"),
        (_signed(9, cluster="other"), "cluster"),
        (_signed(9, signer=Ed25519PrivateKey.generate()), "trusts"),
        (
            _signed(9).model_copy(
                update={"payload": _signed(9).payload.replace('"version":9', '"version":10')}
            ),
            "signature",
        ),
        (_signed(9).model_copy(update={"signature": "!!"}), "signature"),
    ],
)
def test_what_is_refused_changes_nothing(tmp_path: Path, signed: SignedSnapshot, reason: str) -> None:
    store = _store(tmp_path)
    store.accept(_signed(5))
    with pytest.raises(SnapshotRejected, match=reason):
        store.accept(signed)
    assert store.version == 5
    again = _store(tmp_path)
    again.load()
    assert again.version == 5


@pytest.mark.parametrize("content", [b"", b"{", b'{"payload":"x","signature":"x","key_id":"x"}'])
def test_a_damaged_file_is_left_for_the_next_pull(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.json").write_bytes(content)
    store = _store(tmp_path)
    store.load()
    assert store.version == 0


@dataclass
class Control:
    """A control API that answers what the test put on its list."""

    answers: list[web.Response] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.query["after"], request.headers["authorization"]))
        if not self.answers:
            self.idle.set()
            await asyncio.sleep(3600)
        return self.answers.pop(0)


@pytest_asyncio.fixture
async def control() -> AsyncIterator[Control]:
    made = Control()
    app = web.Application()
    app.router.add_get("/v1/snapshots/test", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/snapshots/test"
    yield made
    await runner.cleanup()


async def test_pulling_survives_failures_and_refusals_and_ends_at_the_newest(
    tmp_path: Path, control: Control
) -> None:
    store = _store(tmp_path)
    control.answers = [
        web.Response(text=_signed(3).model_dump_json()),
        web.Response(status=304),
        web.Response(status=500, text="boom"),
        web.Response(text=_signed(2).model_dump_json()),
        web.Response(text="not json"),
        web.Response(text=_signed(8).model_dump_json()),
    ]
    async with aiohttp.ClientSession() as session:
        task = asyncio.create_task(pull(store, session, control.url, "secret", 0.1))
        await asyncio.wait_for(control.idle.wait(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert store.version == 8
    assert [after for after, _ in control.asked] == ["0", "3", "3", "3", "3", "3", "8"]
    assert {token for _, token in control.asked} == {"Bearer secret"}
