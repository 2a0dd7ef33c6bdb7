"""One real platform per test session: PostgreSQL, chDB, Ray, Serve with HAProxy, gateway, control API and two vLLM engines."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from foundry import local
from foundry.client import ControlClient
from foundry.local.instance import Instance

CHAT, EMBED = "smollm2-135m-instruct", "all-minilm-l6-v2"
START_S = 600.0


@pytest.fixture(scope="session")
def platform() -> Iterator[Instance]:
    """A running instance in a home of its own; ended and deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="foundry-e2e-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        try:
            yield local.up(home, timeout_s=START_S)
        finally:
            local.down(home, purge=True)


@pytest.fixture(scope="session")
def client(platform: Instance) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=platform.openai_url, api_key=platform.admin_key, max_retries=0, timeout=120
    ) as made:
        yield made


@pytest.fixture(scope="session")
def control(platform: Instance) -> Iterator[ControlClient]:
    with ControlClient(platform.control_url, platform.admin_key) as made:
        yield made
