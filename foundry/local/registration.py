"""Which default deployments are due, and the marker that remembers what was done, so that nothing the user changed comes back.

What it does not know: the control API (`register.py` talks to it), or engines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from foundry.local.files import write_atomically
from foundry.local.instance import Layout
from foundry.local.services import Wanted


def wanted(layout: Layout, *, models: bool, model_uris: tuple[str, ...]) -> Wanted:
    """What this start has to pull and register. Explicit models always; the defaults once, until they are registered."""
    registered = layout.registered_file.exists()
    due = bool(model_uris) or (models and not registered)
    if not due:
        return Wanted(models=models)
    uris = list(model_uris)
    if models and not registered:
        uris += _default_sources(skip_chat=bool(model_uris))
    return Wanted(models=models, model_uris=model_uris, pull=tuple(uris), register=True)


def remember(path: Path, names: Iterable[str]) -> None:
    """Add names to a marker file."""
    merged = sorted({*_names(path), *names})
    write_atomically(path, json.dumps(merged, indent=2).encode(), durable=True)


def _names(path: Path) -> set[str]:
    try:
        return set(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return set()


def _default_sources(*, skip_chat: bool) -> list[str]:
    from foundry.engines.defaults import DEFAULT_DEPLOYMENTS
    from foundry.types.deployment import Task

    return [spec.model for spec in DEFAULT_DEPLOYMENTS if not (skip_chat and spec.task is Task.GENERATE)]
