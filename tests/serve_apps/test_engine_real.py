"""Both default engines for real: vLLM in Ray Serve replicas behind HAProxy, asked over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from foundry.catalog import resolve
from foundry.engines.defaults import CHAT, EMBEDDING

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
TOKEN = "engine-token-of-this-test"
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
SENTENCES = ["A cat sits on the mat.", "A kitten rests on a rug.", "Stock prices fell sharply."]


@dataclass
class Instance:
    """Where the engines answer and where they keep their state."""

    home: Path
    url: str

    def openai(self, name: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/engines/{name}/v1", api_key=TOKEN, max_retries=0)

    def processes(self, word: str) -> list[psutil.Process]:
        """Live processes of this instance with `word` in their command line."""
        return [process for process in _of(self.home) if word in " ".join(process.cmdline())]


def _of(home: Path) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("FOUNDRY_HOME") == str(home)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="session")
def instance() -> Iterator[Instance]:
    folder = Path(tempfile.mkdtemp(prefix="fe-", dir="/tmp"))
    home = folder / "home"
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "engine.token").write_text(TOKEN)
    models = (
        Path(tempfile.gettempdir()) / f"foundry-test-models-{os.getuid()}"
    )  # converting takes half a minute
    models.mkdir(exist_ok=True)
    (home / "models").symlink_to(models)
    for spec in (CHAT, EMBEDDING):
        resolve(spec.model, home)
    command = [sys.executable, "-m", "tests.serve_apps.engine_instance", str(folder)]
    with (
        (folder / "stderr.log").open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as child,
    ):
        assert child.stdout is not None
        assert child.stdin is not None
        said = next(
            (line for line in iter(child.stdout.readline, "") if line.startswith(("port", "failed"))), ""
        )
        try:
            assert said.startswith("port"), said or (folder / "stderr.log").read_text()[-3000:]
            yield Instance(home, f"http://127.0.0.1:{said.split()[1]}")
        finally:
            child.stdin.close()
            child.wait(60)
            for process in _of(home):
                process.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def chat(instance: Instance) -> Iterator[openai.OpenAI]:
    with instance.openai(CHAT.name) as client:
        yield client


def test_the_chat_model_knows_the_capital_streamed_and_not(chat: openai.OpenAI) -> None:
    model = CHAT.served_model_name
    answer = chat.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=20)
    assert answer.choices[0].message.content == "The capital of France is Paris."
    assert answer.usage is not None
    stream = chat.chat.completions.create(
        model=model,
        messages=QUESTION,
        temperature=0,
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        == "The capital of France is Paris."
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens


def test_the_request_id_reaches_the_engine(chat: openai.OpenAI) -> None:
    answer = chat.completions.create(
        model=CHAT.served_model_name, prompt="One", max_tokens=1, extra_headers={"x-request-id": "edge-7"}
    )
    assert answer.id == "cmpl-edge-7"


def test_tools_and_json_schema(chat: openai.OpenAI) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 30}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool: Any = {
        "type": "function",
        "function": {"name": "get_weather", "parameters": parameters, "strict": True},
    }
    question: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = chat.chat.completions.create(
        model=CHAT.served_model_name,
        messages=question,
        tools=[tool],
        tool_choice="required",
        temperature=0,
        max_tokens=80,
    )
    calls = answer.choices[0].message.tool_calls
    assert calls
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments)["city"]
    schema: Any = {
        "type": "json_schema",
        "json_schema": {"name": "place", "schema": parameters, "strict": True},
    }
    answer = chat.chat.completions.create(
        model=CHAT.served_model_name, messages=question, response_format=schema, temperature=0, max_tokens=60
    )
    assert list(json.loads(answer.choices[0].message.content or "")) == ["city"]


def test_models_tokens_and_errors(instance: Instance, chat: openai.OpenAI) -> None:
    assert [model.id for model in chat.models.list()] == [CHAT.served_model_name]
    assert chat.models.retrieve(CHAT.served_model_name).id == CHAT.served_model_name
    root, headers = f"{instance.url}/engines/{CHAT.name}", {"authorization": f"Bearer {TOKEN}"}
    tokens = httpx.post(f"{root}/tokenize", headers=headers, json={"prompt": "hello world"}).json()
    assert (tokens["count"], tokens["max_model_len"]) == (2, 8192)
    assert httpx.get(f"{root}/v1/models").status_code == 401
    assert httpx.get(f"{root}/health").status_code == 200
    with pytest.raises(openai.NotFoundError):
        chat.completions.create(model="another", prompt="x")


REFERENCE = """
import json, sys, torch
from transformers import AutoModel, AutoTokenizer
folder, sentences = sys.argv[1], json.loads(sys.argv[2])
tokens = AutoTokenizer.from_pretrained(folder)(sentences, padding=True, return_tensors="pt")
with torch.no_grad():
    hidden = AutoModel.from_pretrained(folder, dtype=torch.float32)(**tokens).last_hidden_state
mask = tokens["attention_mask"].unsqueeze(-1)
mean = (hidden * mask).sum(1) / mask.sum(1)
print(json.dumps(torch.nn.functional.normalize(mean).tolist()))
"""


def test_embeddings_equal_transformers(instance: Instance) -> None:
    with instance.openai(EMBEDDING.name) as client:
        answer = client.embeddings.create(
            model=EMBEDDING.served_model_name, input=SENTENCES, encoding_format="float"
        )
    vectors = [row.embedding for row in answer.data]
    folder = resolve(EMBEDDING.model, instance.home).path
    done = subprocess.run(
        [sys.executable, "-c", REFERENCE, str(folder), json.dumps(SENTENCES)],
        capture_output=True,
        text=True,
        check=True,
    )
    reference = json.loads(done.stdout.splitlines()[-1])
    assert [len(vector) for vector in vectors] == [384, 384, 384]
    for vector, expected in zip(vectors, reference, strict=True):
        assert vector == pytest.approx(expected, abs=1e-5)
    dot = [sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors]
    assert dot[1] > dot[2] + 0.3


def _core_cpu_s(core: psutil.Process) -> float:
    times = core.cpu_times()
    return times.user + times.system


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_generation(instance: Instance, *, stream: bool) -> None:
    cores = sorted(instance.processes("VLLM::EngineCore"), key=lambda core: core.memory_info().rss)
    chat_core = cores[-1]
    body = {
        "model": CHAT.served_model_name,
        "prompt": "Once",
        "max_tokens": 4000,
        "ignore_eos": True,
        "stream": stream,
    }
    url, headers = f"{instance.url}/engines/{CHAT.name}/v1/completions", {"authorization": f"Bearer {TOKEN}"}
    with (
        pytest.raises(httpx.ReadTimeout),
        httpx.stream("POST", url, headers=headers, json=body, timeout=httpx.Timeout(30, read=3)) as answer,
    ):
        for number, _ in enumerate(answer.iter_raw()):
            if number == 5:
                raise httpx.ReadTimeout("seen enough")
    deadline = time.monotonic() + 30
    idle = False
    while not idle and time.monotonic() < deadline:  # 4,000 tokens take minutes: idle means aborted
        before = _core_cpu_s(chat_core)
        time.sleep(1)  # a bounded poll: an idle engine uses no CPU
        idle = _core_cpu_s(chat_core) - before < 0.1
    assert idle, "the engine went on generating for a client that had left"


def test_ready_replicas_say_so(instance: Instance) -> None:
    for name in (CHAT.name, EMBEDDING.name):
        files = list((instance.home / "run" / "engines" / name).glob("*.json"))
        assert [json.loads(path.read_text())["phase"] for path in files] == ["ready"]
        logs = (instance.home.parent / "ray" / "session_latest" / "logs").glob("worker-*.err")
        events = [
            json.loads(line)
            for log in logs
            for line in log.read_text().splitlines()
            if "engine_phase" in line
        ]
        phases = [event["phase"] for event in events if event["deployment"] == name]
        assert phases == ["pulling", "loading", "warming", "ready"]


def test_no_core_outlives_a_killed_replica(instance: Instance) -> None:
    """The last test of this instance: it costs it an engine."""
    (replica,) = instance.processes(f"ServeReplica:{EMBEDDING.name}")
    family = replica.children(recursive=True)
    assert any("VLLM::EngineCore" in " ".join(process.cmdline()) for process in family)
    replica.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=15)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
