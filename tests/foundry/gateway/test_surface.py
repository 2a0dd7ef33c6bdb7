"""No route without a meter: everything in the table leaves exactly one usage record, served or refused, and nothing else answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from foundry.codecs import CODECS
from foundry.gateway.exchange import Exchange
from tests.foundry.gateway.conftest import Rig

pytestmark = pytest.mark.long

MakeRig = Callable[..., Awaitable[Rig]]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def _table(made: Rig) -> Iterator[tuple[str, str, str]]:
    for method, pattern, protocol in made.gateway.surface.walk():
        yield method, pattern.replace("{id}", "some-id").replace("{name}", "own-ok"), protocol


async def _send(
    made: Rig, client: httpx.AsyncClient, method: str, path: str, **fields: Any
) -> tuple[int, dict[str, Any]]:
    """Status, and the one record that it left."""
    before = len(made.records())
    answer = await client.request(method, path, **fields)
    after = made.records()
    assert len(after) == before + 1, f"{method} {path} left {len(after) - before} records"
    assert after[-1]["status"] == answer.status_code
    return answer.status_code, after[-1]


async def test_everything_in_the_table_leaves_a_record_with_its_protocol(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        for method, path, protocol in _table(made):
            status, record = await _send(made, client, method, path, content=b"{}")
            assert (record["protocol"], record["project_id"]) == (protocol, "proj_1"), path
            assert status in {200, 400, 404, 415}, (method, path, status)


async def test_everything_in_the_table_wants_a_key(rig: MakeRig) -> None:
    made = await rig()
    async with httpx.AsyncClient(base_url=made.url, timeout=20) as nobody, made.client("admin") as admin:
        for method, path, protocol in _table(made):
            status, record = await _send(made, nobody, method, path, content=b"{}")
            assert (status, record["protocol"], record["outcome"]) == (401, protocol, "rejected"), path
            status, _ = await _send(made, admin, method, path, content=b"{}")
            assert status == 403, path
    assert not made.upstream.requests


async def test_methods_and_paths_that_are_not_in_the_table_are_refused_and_recorded(rig: MakeRig) -> None:
    made = await rig()
    table = {(method, path) for method, path, _ in _table(made)}
    async with made.client() as client:
        for path in sorted({path for _, path in table}):
            for method in METHODS:
                if (method, path) not in table:
                    status, _ = await _send(made, client, method, path)
                    assert status == 405, (method, path, status)
        for path in (
            "/",
            "/v1",
            "/v1/",
            "/v1/nothing",
            "/v1/files/a/b/c",
            "/docs",
            "/metrics",
            "/v1/batches/x/nothing",
            "/healthz/",
        ):
            status, record = await _send(made, client, "GET", path)
            assert (status, record["protocol"]) == (404, "unknown"), path


async def test_health_alone_is_open_and_unrecorded(rig: MakeRig) -> None:
    made = await rig()
    async with httpx.AsyncClient(base_url=made.url) as nobody:
        assert (await nobody.get("/healthz")).status_code == 200
    assert made.records() == []


async def test_every_codec_is_in_the_table_once(rig: MakeRig) -> None:
    made = await rig()
    rows = [(method, pattern) for method, pattern, _ in made.gateway.surface.walk()]
    assert len(rows) == len(set(rows))
    assert {("POST", path) for path in CODECS} <= set(rows)


@pytest.mark.parametrize(
    ("method", "path", "pattern", "found"),
    [
        ("GET", "/v1/models/org/name", "/v1/models/{name}", "org/name"),
        ("GET", "/v1/models/org%2Fname", "/v1/models/{name}", "org/name"),
        ("GET", "/v1/files/f-1/content", "/v1/files/{id}/content", "f-1"),
        ("GET", "/v1/files/f-1", "/v1/files/{id}", "f-1"),
        ("POST", "/v1/batches/b/cancel", "/v1/batches/{id}/cancel", "b"),
    ],
)
async def test_ids_are_found_in_paths(rig: MakeRig, method: str, path: str, pattern: str, found: str) -> None:
    made = await rig()
    endpoint, path_id = made.gateway.surface.find(Exchange("unknown", None), method, path)
    assert (endpoint.pattern, path_id) == (pattern, found)
