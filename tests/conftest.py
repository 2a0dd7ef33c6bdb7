"""Fixtures that every part's tests share: free ports, an instance folder of one's own, a guard against blocking calls."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from foundry import settings


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def make_port() -> Callable[[], int]:
    """Gives a new free port at each call."""
    return free_port


@pytest.fixture
def foundry_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh FOUNDRY_HOME with an empty `secrets` folder; settings are read anew."""
    home = tmp_path / "home"
    (home / "secrets").mkdir(parents=True)
    monkeypatch.setenv("FOUNDRY_HOME", str(home))
    settings.load.cache_clear()
    yield home
    settings.load.cache_clear()


@pytest.fixture
def no_blocking() -> Iterator[BlockBuster]:
    """Blocking calls of our own code inside the event loop raise; use it in every test of the request path."""
    scanned = [name for name in ("foundry", "serve_apps") if find_spec(name)]
    with blockbuster_ctx(scanned_modules=scanned) as guard:
        # A write to the page cache, and now and then a new segment, is the spool's purpose (docs/metrics.md): microseconds.
        for function in guard.functions.values():
            function.can_block_in("foundry/metrics/spool.py", {"append", "has_room"})
            function.can_block_in("foundry/gateway/limits/journal.py", {"append", "rewrite"})
        yield guard


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/gateway/test_soak.py --soak-minutes 30` for the long run."""
    parser.addoption("--soak-minutes", type=float, default=1.0, help="how long the soak test runs")
