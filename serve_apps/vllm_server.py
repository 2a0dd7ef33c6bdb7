"""Starts vLLM inside a replica, through `ray.serve.llm`'s own server and engine.

On a GPU everything is Ray's and vLLM's default. On a CPU start-up costs half the CPU time (docs/engines.md): no extra Ray
process imports vLLM, a single worker stays in the engine core's process, and the core is forked from a fork server that
has imported vLLM meanwhile. What it does not know: tokens, phases, model sources. Importing it imports vLLM.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from ray.llm._internal.serve.core.server.llm_server import LLMServer
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm import LLMConfig
from vllm.v1.engine import utils as launcher

from foundry.engines import EngineConfig
from serve_apps.core_forkserver import context

if TYPE_CHECKING:
    from serve_apps.engine import EngineServer


class Engine(VLLMEngine):
    """`ray.serve.llm`'s vLLM engine, with an end."""

    async def shutdown(self) -> None:
        """Stop the engine core: upstream leaves it to the death of the replica's process."""
        await super().shutdown()
        if self._engine_client is not None:
            self._engine_client.shutdown()


class CpuEngine(Engine):
    """The same on a CPU."""

    async def start(self) -> None:
        """Start it without the Ray task that would fetch the model: the catalog has, and the task imports vLLM again."""
        callback = self.llm_config.get_or_create_callback()
        if callback is not None:
            callback.ctx.run_init_node = False
        await super().start()

    def _prepare_engine_config(self, callback_ctx: Any) -> Any:  # Any: Ray's and vLLM's types, passed through
        engine_args, frontend_args, config = super()._prepare_engine_config(callback_ctx)
        if config.parallel_config.world_size == 1:
            config.parallel_config.distributed_executor_backend = "uni"
        return engine_args, frontend_args, config

    def _start_async_llm_engine(self, *args: Any, **kwargs: Any) -> Any:  # Any: as above
        with _core_from_forkserver():
            return super()._start_async_llm_engine(*args, **kwargs)


class Server(LLMServer):
    """`ray.serve.llm`'s server without its telemetry actor, one more process that imports `ray.llm`."""

    async def _start_engine(self) -> None:
        if self.engine is not None:
            await self.engine.start()

    async def stop(self) -> None:
        """End the engine core."""
        if isinstance(self.engine, Engine):
            await self.engine.shutdown()


@contextmanager
def _core_from_forkserver() -> Generator[None]:
    """Inside, vLLM starts its core through the fork server. It has no option for it: fork and spawn are all it knows, and
    inside a Ray actor only spawn (fork would copy Ray's threads' locks).
    """
    name = "get_mp_context"
    original = getattr(launcher, name)
    setattr(launcher, name, context)
    try:
        yield
    finally:
        setattr(launcher, name, original)


async def start(config: EngineConfig) -> EngineServer:
    """A started server; `config` names the model folder. Raises RuntimeError with vLLM's words when it cannot start."""
    engine_cls = CpuEngine if config.device == "cpu" else Engine
    made = Server.sync_init(LLMConfig(**config.llm_config), engine_cls=engine_cls)
    server = cast(
        "Server", made
    )  # sync_init is annotated with the base class, and makes the class it is called on
    await server.start()
    return server
