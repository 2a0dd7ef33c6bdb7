"""Starts vLLM inside a replica, through `ray.serve.llm`'s own server and engine.

What it does not know: tokens, phases, model sources.
"""

from __future__ import annotations

import multiprocessing
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray.llm._internal.serve.core.server.llm_server import LLMServer
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm import LLMConfig

from foundry.engines import EngineConfig

if TYPE_CHECKING:
    from serve_apps.engine import EngineServer


@contextmanager
def _start_method(method):
    import vllm.v1.engine.utils as u

    original = u.get_mp_context
    ctx = multiprocessing.get_context(method)
    if method == "forkserver":
        ctx.set_forkserver_preload(
            ["vllm.v1.engine.core", "vllm.v1.worker.cpu_worker", "vllm.v1.executor.uniproc_executor"]
        )
    u.get_mp_context = lambda: ctx
    try:
        yield
    finally:
        u.get_mp_context = original


class CpuVllmEngine(VLLMEngine):
    """vLLM on a CPU with one worker"""

    def _prepare_engine_config(self, callback_ctx):
        args, frontend, config = super()._prepare_engine_config(callback_ctx)
        if os.environ.get("X_UNI", "1") == "1":
            config.parallel_config.distributed_executor_backend = "uni"
        return args, frontend, config

    def _start_async_llm_engine(self, *a, **k):
        with _start_method(os.environ.get("X_METHOD", "spawn")):
            return super()._start_async_llm_engine(*a, **k)


async def start(config: EngineConfig) -> EngineServer:
    """A started server; `config` names the model folder."""
    llm_config = LLMConfig(**config.llm_config)
    server = LLMServer.sync_init(llm_config, engine_cls=CpuVllmEngine if config.device == "cpu" else None)
    if config.device == "cpu" and os.environ.get("X_NODE", "0") == "0":
        llm_config.get_or_create_callback().ctx.run_init_node = False
    await server.start()
    return server
