"""Instances in temporary homes, and supervisors over small real children."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foundry.local import instance as instances
from foundry.local import sweep
from foundry.local.instance import ID_VARIABLE, SERVICE_VARIABLE, Instance
from foundry.local.services import Service
from foundry.settings import environment

FOREVER = "import signal; signal.pause()"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    """An instance that never started; whatever carries its marker is ended afterwards."""
    made = instances.load_or_create(tmp_path / "home")
    yield made
    sweep.end(sweep.find(made), patience_s=0.5)


@pytest.fixture
def python_service(instance: Instance) -> Callable[..., Service]:
    """A service that runs a line of Python under the instance's marker."""

    def make(name: str, code: str, **fields: object) -> Service:
        marks = {ID_VARIABLE: instance.id, SERVICE_VARIABLE: name}
        row = {
            "name": name,
            "command": [sys.executable, "-S", "-c", code],
            "env": {**environment(), **marks},
            **fields,
        }
        return Service(**row)  # type: ignore[arg-type]  # fields as the test names them

    return make
