"""The lifecycle over real sockets: who may call, what comes back, and what is recorded, however the request ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.foundry.gateway.conftest import STATUSES, Rig
from tests.support.scripted_upstream import CACHED_TOKENS, OUTPUT_TOKENS, PROMPT_TOKENS

MakeRig = Callable[..., Awaitable[Rig]]
MESSAGES = [{"role": "user", "content": "hello"}]


def _cost(output_tokens: int) -> Decimal:
    """In 0.15, cached 0.075, out 0.60 dollars per million, by hand."""
    full = (PROMPT_TOKENS - CACHED_TOKENS) * Decimal("0.00000015")
    return full + CACHED_TOKENS * Decimal("0.000000075") + output_tokens * Decimal("0.0000006")


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def _chat(model: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": MESSAGES, "stream": stream, **more}


@pytest.mark.parametrize("target", ["own", "vendor"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behaviour", ["ok", "fat-final"])
async def test_a_completed_answer_is_recorded_to_the_last_digit(
    rig: MakeRig, target: str, stream: bool, behaviour: str
) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat(f"{target}-{behaviour}", stream=stream))
    assert answer.status_code == 200
    [record] = made.records()
    assert record["outcome"] == "completed"
    assert record["usage_source"] == "reported"
    assert (record["input_tokens"], record["cached_input_tokens"], record["output_tokens"]) == (
        PROMPT_TOKENS, CACHED_TOKENS, OUTPUT_TOKENS,
    )  # fmt: skip
    assert Decimal(record["cost_usd"]) == _cost(OUTPUT_TOKENS)
    assert (record["price_id"], record["price_status"]) == ("test@1", "priced")
    assert record["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-foundry-target"] == record["target_id"]
    assert (record["ttft_ms"] is not None) is stream
    if not stream:
        assert Decimal(answer.headers["x-foundry-cost-usd"]) == _cost(OUTPUT_TOKENS)


async def test_the_official_client_streams_and_is_told_the_usage_it_asked_for(rig: MakeRig) -> None:
    made = await rig()
    client = openai.AsyncOpenAI(base_url=made.url + "/v1", api_key=made.keys["good"], max_retries=0)
    stream = await client.chat.completions.create(
        model="own-ok",
        messages=[{"role": "user", "content": "x"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "w1 w2 w3 "
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [OUTPUT_TOKENS]
    await client.close()


async def test_a_caller_who_did_not_ask_sees_no_usage(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat("own-ok", stream=True))
    assert "usage" not in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_the_upstream_gets_our_credentials_its_model_name_and_the_request_id(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        await client.post("/v1/chat/completions", json=_chat("vendor-ok"), headers={"x-request-id": "mine-1"})
        await client.post("/v1/chat/completions", json=_chat("own-ok"))
    (vendor_headers, vendor_body), (own_headers, _) = made.upstream.requests
    assert vendor_headers["authorization"] == "Bearer sk-vendor"
    assert vendor_body["model"] == "ok"
    assert vendor_headers["x-request-id"] == "mine-1"
    assert (
        own_headers["authorization"] == "Bearer " + (made.home.path / "secrets" / "engine.token").read_text()
    )
    assert made.keys["good"] not in json.dumps([vendor_headers, own_headers])


async def test_embeddings_and_models(rig: MakeRig) -> None:
    made = await rig()
    client = openai.AsyncOpenAI(base_url=made.url + "/v1", api_key=made.keys["good"], max_retries=0)
    vectors = await client.embeddings.create(model="embed", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in vectors.data] == [[0.5, -0.5]] * 2
    names = [model.id async for model in client.models.list()]
    assert "own-ok" in names
    assert "other-project" not in names
    assert (await client.models.retrieve("own-ok")).id == "own-ok"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other-project")
    await client.close()
    records = made.records()
    assert [record["protocol"] for record in records] == ["embeddings", "models", "models", "models"]
    assert Decimal(records[0]["cost_usd"]) == PROMPT_TOKENS * Decimal("0.00000015")


@pytest.mark.parametrize(
    ("authorization", "status"),
    [(None, 401), ("Bearer", 401), ("Bearer fk-wrong", 401), ("Basic abc", 401), ("Bearer \xff", 401)],
)
async def test_a_wrong_key_is_refused_and_recorded(
    rig: MakeRig, authorization: str | None, status: int
) -> None:
    made = await rig()
    async with made.client() as client:
        client.headers.pop("authorization")
        headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
        answer = await client.post("/v1/chat/completions", json=_chat("own-ok"), headers=headers)  # type: ignore[arg-type]  # header values may be bytes
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")
    assert error["request_id"] == answer.headers["x-request-id"]
    [record] = made.records()
    assert (record["outcome"], record["status"], record["cost_usd"]) == ("rejected", 401, "0")
    assert not made.upstream.requests


async def test_expired_scopeless_and_narrow_keys(rig: MakeRig) -> None:
    made = await rig()
    for key, model, status, code in [
        ("expired", "own-ok", 401, "invalid_api_key"),
        ("admin", "own-ok", 403, "permission_denied"),
        ("narrow", "vendor-ok", 404, "model_not_found"),
        ("narrow", "own-ok", 200, None),
        ("good", "other-project", 404, "model_not_found"),
    ]:
        async with made.client(key) as client:
            answer = await client.post("/v1/chat/completions", json=_chat(model))
        assert answer.status_code == status, (key, model)
        if code:
            assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/chat/completions", b"{", 400, "malformed_body"),
        ("POST", "/v1/chat/completions", b"", 400, "malformed_body"),
        ("POST", "/v1/chat/completions", b'{"model":"own-ok"}', 400, "invalid_parameter"),
        ("POST", "/v1/chat/completions", b'{"model":"nobody","messages":[]}', 404, "model_not_found"),
        ("POST", "/v1/embeddings", b'{"model":"own-ok","input":"x"}', 404, "model_not_found"),
        ("GET", "/v1/chat/completions", b"", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", b"", 405, "method_not_allowed"),
        ("GET", "/v1/modelsx", b"", 404, "not_found"),
        ("GET", "/", b"", 404, "not_found"),
        ("POST", "/engines/own/v1/chat/completions", b"{}", 404, "not_found"),
        (
            "POST",
            "/v1/chat/completions",
            b'{"model":"own-ok","messages":"' + b"x" * 5000 + b'"}',
            413,
            "body_too_large",
        ),
    ],
)
async def test_bad_requests_have_the_right_shape(
    rig: MakeRig, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    made = await rig(max_body_bytes=4096)
    async with made.client() as client:
        answer = await client.request(method, path, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    if status == 413:
        assert "4096" in answer.json()["error"]["message"]
    [record] = made.records()
    assert (record["outcome"], record["error_code"], record["status"]) == ("rejected", code, status)


async def test_an_oversized_body_without_a_declared_length_is_stopped(rig: MakeRig) -> None:
    made = await rig(max_body_bytes=4096)

    async def undeclared() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b"x" * 1024

    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", content=undeclared())
    assert answer.status_code == 413


async def test_a_body_that_stops_half_way_is_answered_not_waited_for(rig: MakeRig) -> None:
    made = await rig(body_timeout_s=0.2)
    host, port = made.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {made.keys['good']}\r\ncontent-length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"model":')
    answer = await asyncio.wait_for(reader.readuntil(b"}}"), 10)
    assert b"400" in answer.split(b"\r\n")[0]
    assert b"malformed_body" in answer
    writer.close()


async def test_a_caller_who_leaves_in_the_middle_of_the_body_is_recorded(rig: MakeRig) -> None:
    made = await rig()
    host, port = made.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {made.keys['good']}\r\ncontent-length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"model":')
    await writer.drain()
    writer.close()
    await _until(lambda: len(made.records()) == 1)
    assert (made.records()[0]["outcome"], made.records()[0]["status"]) == ("aborted", 499)


@pytest.mark.parametrize("target", ["own", "vendor"])
async def test_a_caller_who_leaves_mid_stream_stops_the_upstream_and_pays_for_what_came(
    rig: MakeRig, target: str
) -> None:
    made = await rig()
    async with (
        made.client() as client,
        client.stream("POST", "/v1/chat/completions", json=_chat(f"{target}-endless", stream=True)) as answer,
    ):
        seen = 0
        async for line in answer.aiter_lines():
            seen += line.startswith("data:")
            if seen == 5:
                break
    await asyncio.wait_for(made.upstream.cut.wait(), 10)
    await _until(lambda: len(made.records()) == 1)
    [record] = made.records()
    assert record["outcome"] == "aborted"
    assert record["usage_source"] == ("partial" if target == "own" else "estimated")
    assert record["output_tokens"] >= 4
    if target == "own":
        assert Decimal(record["cost_usd"]) == _cost(record["output_tokens"])


async def test_a_caller_who_leaves_before_the_answer_is_recorded(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        waiting = asyncio.create_task(client.post("/v1/chat/completions", json=_chat("own-slow")))
        await _until(lambda: bool(made.upstream.requests))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await _until(lambda: len(made.records()) == 1)
    assert (made.records()[0]["outcome"], made.records()[0]["status"]) == ("aborted", 499)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["own-die-before", "dead"])
async def test_an_upstream_that_dies_before_its_answer_is_a_502(
    rig: MakeRig, model: str, stream: bool
) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat(model, stream=stream))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
    [record] = made.records()
    assert (record["outcome"], record["cost_usd"]) == ("failed", "0")


async def test_a_silent_upstream_is_a_504(rig: MakeRig) -> None:
    made = await rig(read_timeout_s=0.2)
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat("own-slow"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("behaviour", ["die-mid", "error-mid"])
async def test_an_upstream_that_fails_mid_stream_ends_in_an_error_event_and_is_billed_for_what_came(
    rig: MakeRig, behaviour: str
) -> None:
    made = await rig()
    client = openai.AsyncOpenAI(base_url=made.url + "/v1", api_key=made.keys["good"], max_retries=0)
    stream = await client.chat.completions.create(
        model=f"own-{behaviour}", messages=[{"role": "user", "content": "x"}], stream=True
    )
    text = ""
    with pytest.raises(openai.APIError) as caught:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    await client.close()
    assert text == "w1 w2 "
    assert caught.value.code == "upstream_broke"
    [record] = made.records()
    assert (record["outcome"], record["error_code"], record["status"]) == ("failed", "upstream_broke", 200)
    assert (record["output_tokens"], Decimal(record["cost_usd"])) == (2, _cost(2))


@pytest.mark.parametrize("status", STATUSES)
async def test_an_upstreams_error_keeps_its_words_and_never_blames_the_caller_for_our_credentials(
    rig: MakeRig, status: int
) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat(f"vendor-status-{status}", stream=True))
    expected = 502 if status in (401, 403, 404, 500) else status
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (
        expected,
        "upstream_refused",
        "temperature",
    )
    assert f"scripted {status}" in error["message"]
    assert answer.headers["retry-after"] == "7"


async def test_an_engine_that_is_loading_says_so(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json=_chat("loading"), headers={"x-foundry-wait": "no"}
        )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "deployment_not_ready")
    assert "loading: reading weights" in error["message"]
    assert answer.headers["retry-after"] == "42"
    assert made.records()[0]["outcome"] == "rejected"


async def test_a_vendor_without_its_secret_names_the_variable(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat("secretless"))
    assert answer.status_code == 500
    assert "GROQ_API_KEY" in answer.json()["error"]["message"]


async def test_an_unknown_price_is_never_zero(rig: MakeRig) -> None:
    made = await rig()
    async with made.client() as client:
        answer = await client.post("/v1/chat/completions", json=_chat("unpriced"))
    assert "x-foundry-cost-usd" not in answer.headers
    [record] = made.records()
    assert (record["cost_usd"], record["price_status"], record["output_tokens"]) == (
        None,
        "unknown",
        OUTPUT_TOKENS,
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_vendor_that_tells_no_usage_is_estimated_and_says_so(rig: MakeRig, stream: bool) -> None:
    made = await rig()
    async with made.client() as client:
        await client.post("/v1/chat/completions", json=_chat("vendor-no-usage", stream=stream))
    [record] = made.records()
    assert record["usage_source"] == "estimated"
    assert record["output_tokens"] == (OUTPUT_TOKENS if stream else 4)
    assert record["input_tokens"] == -(-record["request_bytes"] // 4)
