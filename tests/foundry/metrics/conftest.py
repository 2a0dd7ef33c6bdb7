"""A real metrics store for these tests: the embedded one, in its own process, started and stopped like the product does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundry.metrics.store import Store
from foundry.settings import MetricsSettings, Settings
from foundry.types.usage import UsageRecord

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "p4ss word/é"
_START_S = 30.0
_EPOCH = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@dataclass
class StoreProcess:
    """The embedded store as a child that can be killed and started again on the same folder and port."""

    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home, metrics=MetricsSettings(url=f"http://127.0.0.1:{self.port}"))

    def start(self) -> None:
        (self.home / "secrets").mkdir(parents=True, exist_ok=True)
        (self.home / "secrets" / "clickhouse.password").write_text(PASSWORD)
        command = [sys.executable, "-m", "foundry.metrics.embedded", "--path", str(self.home / "clickhouse")]
        environment = {**os.environ, "FOUNDRY_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        with (self.home / "store.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], env=environment, stdout=log, stderr=log, cwd=ROOT
            )
        deadline = time.monotonic() + _START_S
        while not self.answers():
            assert self.process.poll() is None, (self.home / "store.log").read_text()
            assert time.monotonic() < deadline, "the store did not start in time"
            time.sleep(0.05)  # poll: bounded by the deadline above

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


@pytest.fixture(scope="session")
def store_process(
    tmp_path_factory: pytest.TempPathFactory, make_port: Callable[[], int]
) -> Iterator[StoreProcess]:
    child = StoreProcess(tmp_path_factory.mktemp("store"), make_port())
    child.start()
    yield child
    if child.process is not None and child.process.poll() is None:
        assert child.stop() == 0, (child.home / "store.log").read_text()


@pytest.fixture
async def store(store_process: StoreProcess) -> AsyncIterator[Store]:
    """A migrated store without usage."""
    opened = await Store.connect(store_process.settings)
    await opened.migrate()
    await opened.execute("TRUNCATE TABLE usage")
    yield opened
    await opened.close()


def make_record(number: int = 0, **changes: Any) -> UsageRecord:  # why: any field of the record
    """A complete record; `number` fixes its id and, a second apart, its time."""
    record = UsageRecord(
        id=f"rec-{number:08d}",
        received_at=_EPOCH + timedelta(seconds=number),
        request_id=f"req-{number:08d}",
        cluster="local",
        gateway="replica-1",
        organization_id="org-1",
        project_id="project-1",
        key_id="key-1",
        route="smollm2",
        target_id="engine/smollm2",
        provider="",
        deployment="smollm2",
        model="smollm2-135m",
        protocol="chat",
        streamed=True,
        outcome="completed",
        status=200,
        input_tokens=31,
        cached_input_tokens=7,
        output_tokens=12,
        reasoning_tokens=3,
        usage_source="reported",
        cost_usd=Decimal("0.000000123456789012"),
        price_id="operator/smollm2@2026-01-01",
        price_status="priced",
        ttft_ms=12.25,
        tpot_ms=3.5,
        e2e_ms=400.125,
        upstream_ms=11.5,
        request_bytes=512,
        response_bytes=2048,
    )
    return msgspec.structs.replace(record, **changes)


@pytest.fixture
def record() -> Callable[..., UsageRecord]:
    return make_record
