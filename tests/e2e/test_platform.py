"""What the README promises, against the real platform: clients, money, kills, and what is left behind.

The order matters only for speed: the last tests kill things and wait for them to heal.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import httpx
import openai
import psutil
import pytest

from foundry.client import ControlClient
from foundry.local import start, sweep
from foundry.local.instance import Instance
from tests.e2e.conftest import CHAT, EMBED

pytestmark = [pytest.mark.engine, pytest.mark.postgres, pytest.mark.timeout(900)]
T = TypeVar("T")
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False,
        },
        "strict": True,
    },
}  # fmt: skip


def _until(probe: Callable[[], T | None], *, within_s: float = 60, what: str = "it") -> T:
    """The first truthy answer of `probe`, asked again and again."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.2)  # bounded poll
    raise AssertionError(f"{what} did not happen within {within_s:g} s")


def _record(control: ControlClient, request_id: str, *, within_s: float = 60) -> dict[str, Any]:
    def probe() -> list[dict[str, Any]] | None:
        try:
            return control.usage(request_id=request_id, limit=10)
        except Exception:  # noqa: BLE001  the store is down in some tests: that is the point
            return None

    rows = _until(probe, within_s=within_s, what=f"the record of {request_id}")
    assert len(rows) == 1, rows
    return rows[0]


def _foundry(platform: Instance, *args: str) -> str:
    command = [sys.executable, "-m", "foundry.cli", *args]
    done = subprocess.run(
        command,
        env={**os.environ, "FOUNDRY_HOME": str(platform.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _replica(platform: Instance, name: str) -> psutil.Process | None:
    return next(
        (p for p in sweep.find(platform) if " ".join(p.cmdline()).startswith(f"ray::ServeReplica:{name}:")),
        None,
    )


def _answers(client: openai.OpenAI, model: str = CHAT) -> bool:
    try:
        client.chat.completions.create(model=model, messages=QUESTION, max_tokens=1)
    except openai.APIError:
        return False
    return True


def test_paris_whole_and_streamed_and_the_bill_agrees(client: openai.OpenAI, control: ControlClient) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=CHAT, messages=QUESTION, temperature=0, max_tokens=32
    )
    answer = raw.parse()
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    record = _record(control, raw.headers["x-request-id"])
    assert (record["input_tokens"], record["output_tokens"]) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    assert Decimal(str(record["cost_usd"])) == Decimal(raw.headers["x-foundry-cost-usd"]) > 0
    assert record["outcome"] == "completed"

    with client.chat.completions.with_streaming_response.create(
        model=CHAT,
        messages=QUESTION,
        temperature=0,
        max_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
    ) as response:
        chunks = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
        request_id = response.headers["x-request-id"]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert text == answer.choices[0].message.content
    [told] = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    streamed = _record(control, request_id)
    assert (streamed["input_tokens"], streamed["output_tokens"]) == (
        told["prompt_tokens"],
        told["completion_tokens"],
    )
    assert Decimal(str(streamed["cost_usd"])) == Decimal(str(record["cost_usd"]))
    assert streamed["ttft_ms"] > 0
    assert streamed["tpot_ms"] > 0


def test_embeddings_tell_paraphrases_from_strangers(client: openai.OpenAI) -> None:
    texts = ["A man is eating food.", "Somebody is having a meal.", "The stock market fell today."]
    first, paraphrase, stranger = [
        item.embedding
        for item in client.embeddings.create(model=EMBED, input=texts, encoding_format="float").data
    ]
    assert len(first) == 384

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    assert cosine(first, paraphrase) > cosine(first, stranger) + 0.2


def test_models_completions_tools_and_json_schema(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {CHAT, EMBED}
    assert (
        client.completions.create(model=CHAT, prompt="One, two, three,", max_tokens=4, temperature=0)
        .choices[0]
        .text
    )
    called = client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}}, temperature=0, max_tokens=64,
    )  # fmt: skip
    calls: Any = called.choices[0].message.tool_calls
    assert calls
    assert set(json.loads(calls[0].function.arguments)) == {"city"}
    schema: Any = {
        "type": "json_schema",
        "json_schema": {
            "name": "answer", "strict": True,
            "schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False},
        },
    }  # fmt: skip
    shaped = client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "Give me a number as JSON."}],
        response_format=schema,
        max_tokens=32,
    )
    assert isinstance(json.loads(shaped.choices[0].message.content or "")["n"], int)


def test_the_engines_own_refusal_reaches_the_caller(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=CHAT, messages=QUESTION, temperature=-3)
    assert "temperature" in str(caught.value)


def test_whoever_leaves_before_an_unstreamed_answer_is_noticed(
    platform: Instance, control: ControlClient
) -> None:
    """Each of them: HAProxy 2.8 lost one in three while it spliced (foundry/local/haproxy.py)."""
    body = {"model": CHAT, "messages": QUESTION, "max_tokens": 4000, "ignore_eos": True}
    ids = [f"leaves-{number}" for number in range(10)]
    for number, request_id in enumerate(ids):
        headers = {"authorization": f"Bearer {platform.admin_key}", "x-request-id": request_id}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{platform.openai_url}/chat/completions",
                json=body,
                headers=headers,
                timeout=0.5 + number % 3,
            )
    assert {_record(control, request_id)["outcome"] for request_id in ids} == {"aborted"}


def test_engines_are_not_open(platform: Instance) -> None:
    root = platform.openai_url.removesuffix("/v1")
    body = {"model": CHAT, "messages": QUESTION}
    for headers in ({}, {"authorization": f"Bearer {platform.admin_key}"}):
        answer = httpx.post(
            f"{root}/engines/smollm2/v1/chat/completions", json=body, headers=headers, timeout=30
        )
        assert answer.status_code == 401


def test_a_caller_who_leaves_stops_the_engine_and_pays_for_what_came(
    platform: Instance, client: openai.OpenAI, control: ControlClient
) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=CHAT, messages=QUESTION, stream=True, max_tokens=2000, extra_body={"ignore_eos": True}
    ) as response:
        request_id = response.headers["x-request-id"]
        seen = 0
        for line in response.iter_lines():
            seen += line.startswith("data: {")
            if seen > 5:
                break
    record = _record(control, request_id)
    assert (record["outcome"], record["usage_source"]) == ("aborted", "partial")
    assert 5 <= record["output_tokens"] < 1500
    assert Decimal(str(record["cost_usd"])) > 0
    token = (platform.home / "secrets" / "engine.token").read_text().strip()
    url = platform.openai_url.removesuffix("/v1") + "/engines/smollm2/load"

    def idle() -> bool:
        answer = httpx.get(url, headers={"authorization": f"Bearer {token}"}, timeout=30)
        return answer.status_code != 200 or answer.json().get("server_load", 0) == 0

    _until(idle, what="the engine's going idle")


def test_the_command_line(platform: Instance) -> None:
    exported = dict(
        shlex.split(line)[1].split("=", 1)
        for line in _foundry(platform, "env").splitlines()
        if line.startswith("export")
    )
    assert exported["OPENAI_BASE_URL"] == platform.openai_url
    assert exported["OPENAI_API_KEY"] == platform.admin_key
    assert "Paris" in _foundry(platform, "chat", "What is the capital of France?", "--max-tokens", "32")
    status = json.loads(_foundry(platform, "status", "--json"))
    assert status["phase"] == "ready"
    rows = json.loads(_foundry(platform, "usage", "--json", "--limit", "5"))
    assert rows
    assert all("cost_usd" in row for row in (rows["records"] if isinstance(rows, dict) else rows))


def test_a_key_works_until_it_is_revoked(platform: Instance, control: ControlClient) -> None:
    made = control.keys.create("visitor", allowed_routes=[EMBED])
    visitor = openai.OpenAI(base_url=platform.openai_url, api_key=made.key, max_retries=0)

    def embeds() -> bool:
        try:
            visitor.embeddings.create(model=EMBED, input="x")
        except openai.AuthenticationError:
            return False
        return True

    _until(embeds, within_s=5, what="the new key")
    with pytest.raises(openai.NotFoundError):
        visitor.chat.completions.create(model=CHAT, messages=QUESTION)
    control.keys.revoke(made.id)
    _until(lambda: not embeds(), within_s=5, what="the revocation")
    visitor.close()


def test_the_ray_dashboard_shows_the_applications_and_demands_a_token(platform: Instance) -> None:
    url = f"{platform.dashboard_url}/api/serve/applications/"
    assert httpx.get(url, timeout=30).status_code in {401, 403}
    token = (platform.home / "secrets" / "ray.token").read_text().strip()
    shown = httpx.get(url, headers={"authorization": f"Bearer {token}"}, timeout=30).json()["applications"]
    assert {name: app["status"] for name, app in shown.items()} == dict.fromkeys(
        ("gateway", "smollm2", "minilm"), "RUNNING"
    )


def test_nothing_listens_beyond_loopback(platform: Instance) -> None:
    listening = [
        (process.name(), connection.laddr.ip)
        for process in sweep.find(platform)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert [entry for entry in listening if not _is_loopback(entry[1])] == []


def test_a_second_up_changes_nothing(platform: Instance) -> None:
    before = {process.pid for process in sweep.find(platform)}
    assert "ready" in _foundry(platform, "up").lower()
    gone = before - {process.pid for process in sweep.find(platform)}
    state = json.loads(_foundry(platform, "status", "--json"))
    assert not gone & {service["pid"] for service in state["state"]["services"] if service["pid"]}


@pytest.mark.chaos
def test_a_killed_gateway_loses_no_record(
    platform: Instance, client: openai.OpenAI, control: ControlClient
) -> None:
    victim = _replica(platform, "gateway")
    assert victim is not None
    ids = []
    for _ in range(5):
        raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=QUESTION, max_tokens=1)
        ids.append(raw.headers["x-request-id"])
    victim.send_signal(signal.SIGKILL)
    for request_id in ids:
        assert _record(control, request_id)["outcome"] == "completed"
    _until(lambda: _answers(client), what="the gateway's coming back")


@pytest.mark.chaos
def test_a_stopped_metrics_store_loses_no_record(
    platform: Instance, client: openai.OpenAI, control: ControlClient
) -> None:
    [store] = [
        p
        for p in sweep.find(platform, service="metrics")
        if "foundry.metrics.embedded" in " ".join(p.cmdline())
    ]
    store.send_signal(signal.SIGSTOP)
    try:
        raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=QUESTION, max_tokens=1)
    finally:
        store.send_signal(signal.SIGCONT)
    assert _record(control, raw.headers["x-request-id"])["outcome"] == "completed"
    store.send_signal(signal.SIGKILL)
    raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=QUESTION, max_tokens=1)
    assert _record(control, raw.headers["x-request-id"], within_s=120)["outcome"] == "completed"


@pytest.mark.chaos
def test_inference_goes_on_without_the_control_plane(platform: Instance, client: openai.OpenAI) -> None:
    doomed = [*sweep.find(platform, service="control-api"), *sweep.find(platform, service="postgres")]
    assert doomed
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL's children go with their parent
            process.send_signal(signal.SIGKILL)
    assert _answers(client)
    with ControlClient(platform.control_url, platform.admin_key) as control:

        def lists() -> bool:
            try:
                return bool(control.keys.list())
            except Exception:  # noqa: BLE001  it was killed a moment ago
                return False

        _until(lists, within_s=120, what="the control plane's coming back")


@pytest.mark.chaos
def test_down_leaves_nothing_and_up_heals(
    platform: Instance, client: openai.OpenAI, control: ControlClient
) -> None:
    spent = len(control.usage(limit=1000))
    supervisor = sweep.find(platform)[0]
    supervisor.send_signal(signal.SIGKILL)
    start.down(platform.home)
    assert sweep.find(platform) == []
    for port in platform.known_ports().named().values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not platform.temp_dir.exists()
    start.up(platform.home, timeout_s=600)
    assert "Paris" in (
        client.chat.completions.create(model=CHAT, messages=QUESTION, temperature=0, max_tokens=32)
        .choices[0]
        .message.content
        or ""
    )
    assert len(control.usage(limit=1000)) >= spent
