"""LoRA adapters on disk to the engine's arguments: what each is called, where it lies, and the rank that all of them fit into.

What it does not know: where adapters come from (`catalog/`), vLLM (it imports none of it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from foundry.errors import DeploymentSpecError

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM 0.32 has kernels for (`vllm.config.lora.MaxLoRARanks`): the smallest that fits all adapters is taken."""


def adapter_arguments(folders: Mapping[str, str]) -> dict[str, JsonValue]:
    """Engine arguments for adapters by name. Raises DeploymentSpecError naming the adapter that cannot be served."""
    if not folders:
        return {}
    modules: list[JsonValue] = [{"name": name, "path": folder} for name, folder in folders.items()]
    highest = max(_rank(name, Path(folder)) for name, folder in folders.items())
    return {"lora_modules": modules, "max_lora_rank": next(rank for rank in _RANKS if rank >= highest)}


def _rank(name: str, folder: Path) -> int:
    path = folder / "adapter_config.json"
    try:
        rank = json.loads(path.read_text(encoding="utf-8"))["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeploymentSpecError(
            f"adapter {name!r}: {path} is not a LoRA adapter's configuration ({type(error).__name__}: {error})",
            param="adapters",
        ) from error
    if not isinstance(rank, int) or not 1 <= rank <= _RANKS[-1]:
        raise DeploymentSpecError(
            f"adapter {name!r} has rank {rank!r}: vLLM serves ranks from 1 to {_RANKS[-1]}", param="adapters"
        )
    return rank
