"""Malformed requests to every endpoint, and garbage from every upstream: no 500, one record each, nothing that hangs or stays.

The share in `make check` is small; `make test` sends 20,000. A seed gives the same requests again: a failure prints its case.
"""

# Private names: what must be at rest is counted inside.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from foundry.codecs import CODECS
from foundry.types.usage import UsageRecord
from tests.gateway import fuzz_answers, fuzz_requests, fuzz_rig
from tests.gateway.bare_asgi import Reply
from tests.gateway.fuzz_rig import ENVIRONMENT, Answer, Case, Rig
from tests.support.forms import form, silence

Runner = asyncio.Runner


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with Runner() as made:
        yield made


async def _storm(folder: Path, seed: str, count: int) -> None:
    async with fuzz_rig.rig(folder, fuzz_rig.right_answer) as rig:
        table = fuzz_requests.table(rig.gateway.surface)
        before = rig.tasks()
        for number in range(count):
            row = table[number % len(table)]
            await rig.send(fuzz_requests.mutated(Random(f"{seed}-{number}"), rig, row))
        assert rig.upstream.asked > count / 20, "hardly any request got through to a target"
        await _nothing_left(rig, before)


async def _nothing_left(rig: Rig, before: dict[str, int]) -> None:
    async with asyncio.timeout(10):
        while set(rig.tasks()) - set(before):
            await asyncio.sleep(0.05)  # poll: bounded by the timeout above
    assert len(rig.gateway.progress) == 0
    assert rig.gateway._traffic.in_flight == 0


async def _garbage(folder: Path, seed: str, count: int) -> None:
    async with fuzz_rig.rig(folder, fuzz_rig.right_answer) as rig:
        rows = [
            (codec.name, path, model)
            for path, codec in CODECS.items()
            for model in fuzz_requests.models_for(codec.name)
        ]
        before = rig.tasks()
        for number in range(count):
            random = Random(f"{seed}-{number}")
            rig.upstream.answering = fuzz_answers.garbage(random)
            reply = await rig.send(fuzz_requests.right(random, rig, *rows[number % len(rows)]))
            _billed(rows[number % len(rows)], reply, rig.last)
        assert rig.upstream.asked > count / 2
        await _nothing_left(rig, before)


def _billed(row: tuple[str, str, str], reply: Reply, record: UsageRecord | None) -> None:
    """What the caller got was told by the target, or estimated. A stream that said nothing is free."""
    assert record is not None
    said = reply.status == 200 and (not record.streamed or record.ttft_ms is not None)
    assert not said or record.usage_source != "none", (row, reply, record)


def test_garbage_from_upstreams(tmp_path: Path, runner: Runner) -> None:
    runner.run(_garbage(tmp_path, "check", 600))


@pytest.mark.chaos
def test_more_garbage_from_upstreams(tmp_path: Path, runner: Runner) -> None:
    runner.run(_garbage(tmp_path, "test", 2500))


ENDLESS_LENGTH = (b"content-length", b"9" * 5000)
TORN_WAV = form(
    ("file", ("a.wav", silence(0.1)[:16] + b"\xff" + silence(0.1)[16:])), ("model", "own-transcribe")
)
FOUND: dict[str, tuple[str, tuple[tuple[bytes, bytes], ...], bytes, int]] = {
    "a length that Python refuses to read": (
        "/v1/score",
        (fuzz_requests.JSON_TYPE, ENDLESS_LENGTH),
        b"{}",
        413,
    ),
    "a WAV whose sizes point behind its end": (
        "/v1/audio/transcriptions",
        (fuzz_requests.FORM_TYPE,),
        TORN_WAV,
        200,
    ),
}
"""What the storms found in requests, shrunk."""


@pytest.mark.parametrize("found", FOUND)
def test_found_in_requests(tmp_path: Path, runner: Runner, found: str) -> None:
    path, headers, body, status = FOUND[found]

    async def run() -> None:
        async with fuzz_rig.rig(tmp_path, fuzz_rig.right_answer) as rig:
            reply = await rig.send(Case("POST", path, rig.headers(*headers), (body,)))
            assert reply.status == status

    runner.run(run())


_CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"one"}}],"usage":%s}\n\ndata: [DONE]\n\n'
_RESPONSE = json.dumps(fuzz_rig.response_object() | {"created_at": []}).encode()
ANSWERED: dict[str, tuple[str, str, dict[str, object], Answer, int, str]] = {
    "usage of the wrong shape in a stream": (
        "/v1/chat/completions", "own-generate", {"messages": [], "stream": True},
        Answer(_CHUNK % b'{"completion_tokens":[]}', "text/event-stream"), 200, "estimated"),
    "usage that is no object in a stream": (
        "/v1/completions", "openai-generate", {"prompt": "hi", "stream": True},
        Answer(_CHUNK % b"[1]", "text/event-stream"), 200, "estimated"),
    "an answer too deep to read": (
        "/v1/messages/count_tokens", "own-generate", {"messages": [{"role": "user", "content": "hi"}]},
        Answer(b'{"a":' * 20_000 + b"1"), 502, "none"),
    "an answer that is not text": (
        "/v1/responses", "gemini-generate", {"input": "hi"},
        Answer(b'{"candidates":[{"content":{"parts":[{"text":"\xbb"}]}}]}'), 502, "none"),
    "a response that cannot be kept": (
        "/v1/responses", "responses-generate", {"input": "hi", "store": True}, Answer(_RESPONSE), 200, "reported"),
}  # fmt: skip
"""What the storms found in answers, shrunk: path, route, members, answer, status, where the counts are from."""


@pytest.mark.parametrize("found", ANSWERED)
def test_found_in_answers(tmp_path: Path, runner: Runner, found: str) -> None:
    path, model, members, answer, status, source = ANSWERED[found]

    async def run() -> None:
        async with fuzz_rig.rig(tmp_path, lambda _path, _body: answer) as rig:
            body = json.dumps({"model": model, **members}).encode()
            reply = await rig.send(Case("POST", path, rig.headers(fuzz_requests.JSON_TYPE), (body,)))
            assert reply.status == status, reply
            assert rig.last is not None
            assert rig.last.usage_source == source, rig.last

    runner.run(run())


def test_malformed_requests(tmp_path: Path, runner: Runner) -> None:
    runner.run(_storm(tmp_path, "check", 1500))


@pytest.mark.chaos
def test_twenty_thousand_malformed_requests(tmp_path: Path, runner: Runner) -> None:
    runner.run(_storm(tmp_path, "test", 20_000))
