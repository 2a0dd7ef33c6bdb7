"""Engines: a `DeploymentSpec` becomes the configuration of a `ray.serve.llm` deployment, as plain data.

What it does not know: Ray and the engines themselves (nothing here imports them), model sources, HTTP.
"""

from foundry.engines.config import ClusterResources, EngineConfig
from foundry.engines.registry import ENGINES, render

__all__ = ["ENGINES", "ClusterResources", "EngineConfig", "render"]
