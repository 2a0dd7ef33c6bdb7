"""Starts SGLang inside a replica, through `ray.serve.llm`'s own SGLang server. GPU only; runs where `foundry[sglang]` is installed.

What it does not know: tokens, phases, model sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.llm._internal.serve.engines.sglang.sglang_engine import SGLangServer
from ray.serve.llm import LLMConfig

from foundry.engines import EngineConfig

if TYPE_CHECKING:
    from serve_apps.engine import EngineServer


class Server(SGLangServer):
    """`ray.serve.llm`'s SGLang server, with an end."""

    async def stop(self) -> None:
        """End the schedulers."""
        self.engine.shutdown()


async def start(config: EngineConfig) -> EngineServer:
    """A started server; `config` names the model folder."""
    llm_config = LLMConfig(**config.llm_config)
    llm_config.engine_kwargs["model_path"] = config.llm_config["model_loading_config"]["model_source"]
    server = Server(llm_config)
    await server.start()
    return server
