"""The fork server of a CPU replica: a small process that imports vLLM once, and from which the engine core is forked.

Started first thing, it imports while the replica pulls the model and imports its own half of vLLM. It has no Ray threads, so
forking from it is safe, unlike forking from the replica. What it does not know: vLLM's configuration. Importing this is cheap.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
from multiprocessing.context import ForkServerContext


def context() -> ForkServerContext:
    """The multiprocessing context that forks from it."""
    return multiprocessing.get_context("forkserver")


def warm() -> None:
    """Start it (once per process); it goes on importing in the background."""
    context().set_forkserver_preload(["serve_apps.vllm_preload"])
    multiprocessing.forkserver.ensure_running()
