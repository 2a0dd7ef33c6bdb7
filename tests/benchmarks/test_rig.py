"""The benchmark's own instruments: a scripted upstream that real clients believe, a load that notices wrong answers, a
meter that misses no child."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable

import openai
import pytest

from benchmarks import load, report, upstream
from benchmarks.cpu import Window, cpu_ns, tree


@pytest.fixture
async def port() -> AsyncIterator[int]:
    script = upstream.Script(step_s=0.001)
    server = await asyncio.get_running_loop().create_server(
        lambda: upstream.Connection(script), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def client(port: int) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0
    ) as made:
        yield made


async def test_the_official_client_reads_a_whole_answer(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "x"}]
    )
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (
        upstream.OUTPUT_TOKENS,
        "stop",
    )


@pytest.mark.parametrize("model", ["scripted", "scripted-paced"])
@pytest.mark.parametrize("running", [False, True])
async def test_the_official_client_reads_a_stream(
    client: openai.AsyncOpenAI, model: str, running: bool
) -> None:
    options = {"include_usage": True, **({"continuous_usage_stats": True} if running else {})}
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "x"}],
        stream=True,
        extra_body={"stream_options": options},
    )
    chunks = [chunk async for chunk in stream]
    with_choice = [chunk for chunk in chunks if chunk.choices]
    assert (len(with_choice), len(chunks)) == (upstream.CHUNKS, upstream.CHUNKS + 1)
    assert [chunk.usage is not None for chunk in with_choice] == [running] * upstream.CHUNKS
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == upstream.OUTPUT_TOKENS
    text = "".join(chunk.choices[0].delta.content or "" for chunk in with_choice)
    assert text.split()[:3] == ["the", "quick", "brown"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_load_sends_exactly_what_it_was_asked_for(port: int, stream: bool) -> None:
    body = load.body_for("scripted", stream=stream, usage="final")
    request = load.request_for("/v1/chat/completions", port, "none", body)
    result = await load.run(port, request, stream=stream, requests=37, concurrency=4)
    assert result["requests"] == 37
    assert 0 < result["first_p50_ms"] <= result["whole_p50_ms"] <= result["whole_p99_ms"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /answered HTTP/1.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0])) == b"37"
    writer.close()
    await writer.wait_closed()


_WRONG = {
    "an error": b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n{}",
    "a stream without its end": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: {}\n\r\n0\r\n\r\n",
    "no answer": b"",
}


@pytest.mark.parametrize("answer", _WRONG.values(), ids=_WRONG)
async def test_the_load_fails_on_a_wrong_answer(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        request = load.request_for("/v1/chat/completions", port, "none", load.body_for("m", stream=True))
        with pytest.raises(load.Wrong):
            await load.run(port, request, stream=True, requests=3, concurrency=1)


_BURN = "import time\nwhile time.process_time() < {seconds}: pass\nprint(flush=True)\ninput()"
_FAMILY = """import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {burn!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(flush=True)
input()
child.communicate(b"\\n")
"""


@pytest.fixture
def family() -> Callable[[float], subprocess.Popen[bytes]]:
    def start(seconds: float) -> subprocess.Popen[bytes]:
        program = _FAMILY.format(burn=_BURN.format(seconds=seconds))
        return subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    return start


@pytest.mark.parametrize("seconds", [0.0, 0.4])
def test_the_meter_counts_what_a_grandchild_used(
    family: Callable[[float], subprocess.Popen[bytes]], seconds: float
) -> None:
    process = family(seconds)
    window = Window(lambda: tree([process.pid]))
    window.start()
    assert process.stdout is not None
    process.stdout.readline()
    used_s = window.stop() / 1e6
    process.communicate(b"\n")
    assert seconds <= used_s < seconds + 0.35  # what it takes to start two Pythons


def test_the_clock_of_a_process_is_its_own_cpu_time() -> None:
    before, own = cpu_ns(os.getpid()), time.process_time_ns()
    while time.process_time_ns() - own < 50_000_000:
        pass
    assert 50_000_000 <= cpu_ns(os.getpid()) - before < 100_000_000


def test_a_target_says_whether_it_holds() -> None:
    assert report.target(699.9, 700)["pass"] is True
    assert report.target(9.9, 10, at_least=True)["pass"] is False
    assert report.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "rounds": 3}
