"""Whatever is sent, the answer is problem+json with the right status, a code and the request id."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from control_api.kit.edge import MAX_BODY_BYTES
from tests.control_api.conftest import DEPLOYMENT, ENGINE_ROUTE, Api

pytestmark = pytest.mark.postgres
KEY = {"name": "x"}
PROVIDER = {"kind": "provider", "provider": "openai", "model": "gpt"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/keys", b"{", 400, "malformed_body"),
        ("POST", "/v1/keys", b"", 400, "invalid_parameter"),
        ("POST", "/v1/keys", [], 400, "invalid_parameter"),
        ("POST", "/v1/keys", {}, 400, "invalid_parameter"),
        ("POST", "/v1/keys", KEY | {"surprise": 1}, 400, "invalid_parameter"),
        ("POST", "/v1/keys", KEY | {"scopes": []}, 400, "invalid_parameter"),
        ("POST", "/v1/keys", KEY | {"scopes": ["root"]}, 400, "invalid_parameter"),
        ("POST", "/v1/keys", KEY | {"allowed_routes": ["../x"]}, 400, "invalid_parameter"),
        ("POST", "/v1/keys", KEY | {"expires_at": "2001-01-01T00:00:00Z"}, 400, "invalid_parameter"),
        ("POST", "/v1/keys", KEY | {"expires_at": "2031-01-01T00:00:00"}, 400, "invalid_parameter"),
        ("POST", "/v1/keys", {"name": "a\x00b"}, 400, "invalid_parameter"),
        ("DELETE", "/v1/keys/key_none", None, 404, "not_found"),
        ("GET", "/v1/keys?limit=0", None, 400, "invalid_parameter"),
        ("GET", "/v1/keys?cursor=%21%21", None, 400, "invalid_parameter"),
        ("PATCH", "/v1/keys", None, 405, "method_not_allowed"),
        ("GET", "/v1/nothing", None, 404, "not_found"),
        ("PUT", "/v1/deployments/other", DEPLOYMENT, 400, "invalid_parameter"),
        ("PUT", "/v1/deployments/Bad_Name", DEPLOYMENT, 400, "invalid_parameter"),
        ("PUT", "/v1/deployments/gateway", DEPLOYMENT | {"name": "gateway"}, 400, "invalid_parameter"),
        ("PUT", "/v1/deployments/smollm2", DEPLOYMENT | {"replicas": 0}, 400, "invalid_parameter"),
        ("GET", "/v1/deployments/none", None, 404, "not_found"),
        ("DELETE", "/v1/deployments/none", None, 404, "not_found"),
        ("PUT", "/v1/routes/r", ENGINE_ROUTE, 400, "invalid_parameter"),
        ("PUT", "/v1/routes/r", {"targets": []}, 400, "invalid_parameter"),
        ("PUT", "/v1/routes/r", {"targets": [{"kind": "magic"}]}, 400, "invalid_parameter"),
        ("PUT", "/v1/routes/r", {"targets": [PROVIDER | {"provider": "nobody"}]}, 400, "invalid_parameter"),
        ("PUT", "/v1/routes/r", {"targets": [PROVIDER, PROVIDER]}, 400, "invalid_parameter"),
        ("PUT", "/v1/routes/a//b", {"targets": [PROVIDER]}, 400, "invalid_parameter"),
        ("GET", "/v1/routes/none", None, 404, "not_found"),
        ("DELETE", "/v1/routes/none", None, 404, "not_found"),
        ("GET", "/v1/usage?since=yesterday", None, 400, "invalid_parameter"),
        ("GET", "/v1/usage", None, 503, "metrics_unavailable"),
    ],
)
async def test_problem(shared_api: Api, method: str, path: str, body: Any, status: int, code: str) -> None:
    sent: dict[str, Any] = {"content": body, "headers": {"content-type": "application/json"}}
    response = await shared_api.client.request(
        method, path, **(sent if isinstance(body, bytes) else {"json": body})
    )
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"]


async def test_the_callers_request_id_is_kept_if_it_is_sane(shared_api: Api) -> None:
    kept = await shared_api.client.get("/healthz", headers={"x-request-id": "trace-1"})
    assert kept.headers["x-request-id"] == "trace-1"
    replaced = await shared_api.client.get("/healthz", headers={"x-request-id": "a b" * 100})
    assert replaced.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_oversized_body_is_refused_with_the_limit(shared_api: Api, chunked: bool) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b" " * 65536

    content = pieces() if chunked else b" " * (MAX_BODY_BYTES + 1)
    response = await shared_api.client.post(
        "/v1/keys", content=content, headers={"content-type": "application/json"}
    )
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert str(MAX_BODY_BYTES) in response.json()["detail"]
