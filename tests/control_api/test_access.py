"""Every route refuses whoever may not use it: a new route without a rule fails here."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.control_api.conftest import Api

pytestmark = pytest.mark.postgres
OPEN = {"/healthz", "/readyz", "/openapi.json"}
FOR_GATEWAYS = {"/v1/snapshots/{cluster}"}


def _routes(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path of the application, as the OpenAPI document and the router agree on."""
    documented = {(method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item}
    routed: set[tuple[str, str]] = set()
    for route in _flat(app.routes):
        if isinstance(route, APIRoute):
            routed |= {(method, route.path.replace(":path}", "}")) for method in route.methods}
    assert routed == documented
    return sorted(documented)


def _flat(routes: Sequence[object]) -> list[object]:
    found: list[object] = []
    for route in routes:
        inner = getattr(route, "routes", None)
        found += _flat(list(inner)) if inner else [route]
    return found


def _filled(path: str) -> str:
    return path.replace("{name}", "x").replace("{key_id}", "key_x").replace("{cluster}", "local")


async def _status(client: httpx.AsyncClient, method: str, path: str, bearer: str | None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {"Authorization": ""}
    response = await client.request(
        method, _filled(path), headers=headers, json={} if method in {"PUT", "POST"} else None
    )
    return response.status_code, response.json().get("code", "") if response.content else ""


async def test_every_route_refuses_strangers_and_inference_keys(shared_api: Api) -> None:
    _id, inference = await shared_api.key("inference")
    checked = 0
    for method, path in _routes(shared_api.app):
        if path in OPEN:
            continue
        assert await _status(shared_api.client, method, path, None) == (401, "invalid_api_key"), (
            method,
            path,
        )
        assert await _status(shared_api.client, method, path, "fk-unknown") == (401, "invalid_api_key"), (
            method,
            path,
        )
        expected = (401, "invalid_api_key") if path in FOR_GATEWAYS else (403, "permission_denied")
        assert await _status(shared_api.client, method, path, inference) == expected, (method, path)
        checked += 1
    assert checked >= 15


async def test_a_gateway_may_only_read_snapshots_and_an_admin_key_may_not(shared_api: Api) -> None:
    for method, path in _routes(shared_api.app):
        if path in OPEN | FOR_GATEWAYS:
            continue
        status, _code = await _status(shared_api.client, method, path, shared_api.runtime.cluster_token)
        assert status == 401, (method, path)
    assert (await shared_api.client.get("/v1/snapshots/local")).status_code == 401
    assert (
        await shared_api.client.get("/v1/snapshots/local", headers=shared_api.gateway_headers())
    ).status_code == 200


async def test_what_is_open_tells_nothing(shared_api: Api) -> None:
    for path in ("/healthz", "/readyz"):
        response = await shared_api.client.get(path, headers={"Authorization": ""})
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (
        await shared_api.client.get("/docs")
    ).status_code == 404  # its assets would come from the internet
