"""Shipping: into a real store, through outages, from the dead, twice; nothing lost, nothing counted twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from foundry.errors import MetricsRefused, MetricsUnavailable
from foundry.metrics import segments, writer
from foundry.metrics.queries import list_usage, usage_totals
from foundry.metrics.spool import Spool
from foundry.metrics.store import Store
from foundry.metrics.writer import Shipper
from foundry.settings import MetricsSettings
from foundry.types.usage import UsageRecord
from tests.foundry.metrics.conftest import StoreProcess, make_record

ROOT = Path(__file__).resolve().parents[3]
MIB = 1024 * 1024
Record = Callable[..., UsageRecord]


async def ids(store: Store) -> list[str]:
    return sorted(str(row["id"]) for row in await list_usage(store, limit=10_000))


def shipper(
    folder: Path, child: StoreProcess, *, batch_rows: int = 1000, interval_s: float = 0.02
) -> Shipper:
    return Shipper(folder, child.settings, interval_s=interval_s, batch_rows=batch_rows)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.02)  # poll: bounded by the timeout above


async def test_live_lines_and_closed_segments_arrive_exactly(
    tmp_path: Path, store_process: StoreProcess, store: Store, record: Record
) -> None:
    folder = tmp_path / "a"
    spool = Spool(folder, segment_bytes=4096, max_bytes=MIB)
    bare = {
        "cost_usd": None,
        "ttft_ms": None,
        "tpot_ms": None,
        "upstream_ms": None,
        "streamed": False,
        "price_status": "unknown",
    }
    written = [
        record(1),
        record(2, cost_usd=Decimal("1E-18"), route='a "b" \\ \n é'),
        record(3, cost_usd=Decimal("12345678901234567890.123456789012345678")),
        record(4, **bare),
        *(record(number) for number in range(5, 60)),
    ]
    ship = shipper(folder, store_process, batch_rows=7)
    for one in written[:30]:
        spool.append(one)
    assert await ship.ship_once() == 30
    assert len(segments.listing(folder)) == 1, "shipped segments are deleted, the live one stays"
    for one in written[30:]:
        spool.append(one)
    assert await ship.ship_once() == len(written) - 30
    assert await ship.ship_once() == 0
    assert ship.lag == writer.Lag()
    rows = await list_usage(store, limit=100)
    expected = [
        {name: getattr(one, name) for name in UsageRecord.__struct_fields__} for one in reversed(written)
    ]
    assert rows == expected
    await ship.stop()
    spool.close()


async def test_shipping_twice_is_harmless(
    tmp_path: Path, store_process: StoreProcess, store: Store, record: Record
) -> None:
    folder = tmp_path / "a"
    spool = Spool(folder, segment_bytes=MIB, max_bytes=MIB)
    for number in range(10):
        spool.append(record(number))
    ship = shipper(folder, store_process)
    await ship.ship_once()
    segments.position_path(
        segments.listing(folder)[0]
    ).unlink()  # a crash between the INSERT and the position
    assert await ship.ship_once() == 10
    assert len(await ids(store)) == 10
    totals = await usage_totals(store)
    assert (totals["requests"], totals["input_tokens"]) == (10, 310)
    assert totals["cost_usd"] == 10 * Decimal("0.000000123456789012")
    await ship.stop()
    spool.close()


async def test_records_wait_while_the_store_is_down(
    tmp_path: Path, make_port: Callable[[], int], record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BACKOFF_MAX_S", 0.2)
    child = StoreProcess(tmp_path / "home", make_port())
    (child.home / "secrets").mkdir(parents=True)
    (child.home / "secrets" / "clickhouse.password").write_text("p")
    folder = tmp_path / "spool" / "a"
    spool = Spool(folder, segment_bytes=MIB, max_bytes=MIB)
    ship = shipper(folder, child)
    ship.start()
    for number in range(50):
        spool.append(record(number, received_at=datetime.now(UTC) - timedelta(seconds=100)))
    await eventually(lambda: ship.last_error is not None and ship.lag.rows == 50)
    assert ship.lag.bytes == segments.listing(folder)[0].stat().st_size
    assert 100 <= ship.lag.oldest_age_s < 200
    assert str(child.port) in str(ship.last_error)
    await asyncio.to_thread(child.start)
    back = await Store.connect(child.settings)
    await eventually(lambda: "UNKNOWN" in str(ship.last_error) or "does not exist" in str(ship.last_error))
    await back.migrate()  # records also wait for their table
    await eventually(lambda: ship.lag.rows == 0 and ship.last_error is None)
    assert len(await ids(back)) == 50
    await back.close()
    await ship.stop()
    spool.close()
    assert await asyncio.to_thread(child.stop) == 0


_DIES = """
import os, signal, sys
from pathlib import Path
from foundry.metrics.spool import Spool
from tests.foundry.metrics.conftest import make_record
spool = Spool(Path(sys.argv[1]), segment_bytes=8192, max_bytes=1 << 20)
for number in range(100):
    spool.append(make_record(number))
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_two_shippers_adopt_a_dead_siblings_segments(
    tmp_path: Path, store_process: StoreProcess, store: Store, record: Record
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _DIES, str(tmp_path / "dead")]
    died = await asyncio.to_thread(subprocess.run, command, env=environment, check=False, cwd=ROOT)
    assert died.returncode == -signal.SIGKILL
    last = segments.listing(tmp_path / "dead")[-1]
    with last.open("ab") as torn:
        torn.write(b"0badc0de {}\n" + segments.encode_line(b'{"id":"cut')[:-5])  # what a power cut leaves
    alive = Spool(tmp_path / "alive", segment_bytes=MIB, max_bytes=MIB)
    alive.append(record(1000))
    ships = [shipper(tmp_path / name, store_process, batch_rows=10) for name in ("one", "two")]
    shipped = await asyncio.gather(*(ship.ship_once() for ship in ships))
    assert sum(shipped) == 100, shipped
    assert sum(ship.corrupt_lines for ship in ships) == 2
    assert await ids(store) == [record(number).id for number in range(100)], "a living sibling is left alone"
    assert segments.listing(tmp_path / "alive")
    assert not segments.listing(tmp_path / "dead")
    assert writer.orphans(tmp_path / "one") == []
    assert not (tmp_path / "dead").exists()
    for ship in ships:
        await ship.stop()
    alive.close()


async def test_a_row_that_can_never_be_stored_is_set_aside(
    tmp_path: Path, store_process: StoreProcess, store: Store, record: Record
) -> None:
    folder = tmp_path / "a"
    spool = Spool(folder, segment_bytes=MIB, max_bytes=MIB)
    for number in range(20):
        spool.append(record(number, cost_usd=Decimal(10) ** 30) if number == 13 else record(number))
    ship = shipper(folder, store_process)
    await ship.ship_once()
    assert ship.refused_rows == 1
    assert await ids(store) == [record(number).id for number in range(20) if number != 13]
    assert (folder / writer.REFUSED_FILE).read_text().count(record(13).id) == 1
    await ship.stop()
    spool.close()


async def test_stop_ships_what_waits(
    tmp_path: Path, store_process: StoreProcess, store: Store, record: Record
) -> None:
    folder = tmp_path / "a"
    spool = Spool(folder, segment_bytes=MIB, max_bytes=MIB)
    ship = shipper(folder, store_process, interval_s=60)
    ship.start()
    await eventually(lambda: ship.last_error is None)
    for number in range(5):
        spool.append(record(number))
    await ship.stop()
    assert len(await ids(store)) == 5
    spool.close()


async def test_stop_is_bounded(tmp_path: Path, store_process: StoreProcess, record: Record) -> None:
    async def say_nothing(reader: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        answer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    settings = store_process.settings.model_copy(
        update={"metrics": MetricsSettings(url=f"http://127.0.0.1:{port}")}
    )
    spool = Spool(tmp_path / "a", segment_bytes=MIB, max_bytes=MIB)
    spool.append(record())
    ship = Shipper(tmp_path / "a", settings, interval_s=0.01, batch_rows=10)
    ship.start()
    async with asyncio.timeout(5):
        await ship.stop(timeout_s=0.3)
    assert len(segments.listing(tmp_path / "a")) == 1, "what is left stays on disk"
    silent.close()
    await silent.wait_closed()
    spool.close()


async def test_errors_are_ours(
    store_process: StoreProcess, make_port: Callable[[], int], store: Store
) -> None:
    with pytest.raises(MetricsRefused) as refused:
        await store.query("SELECT * FROM nowhere", {})
    assert refused.value.store_code == 60
    with pytest.raises(MetricsUnavailable, match="does not answer"):
        await store.query(
            "SELECT count() FROM numbers(100000000000)", {}, settings={"max_execution_time": 0.1}
        )
    nobody = store_process.settings.model_copy(
        update={"metrics": MetricsSettings(url=f"http://127.0.0.1:{make_port()}")}
    )
    with pytest.raises(MetricsUnavailable) as unavailable:
        await Store.connect(nobody)
    assert unavailable.value.retryable
    stranger = store_process.settings.model_copy(
        update={"metrics": MetricsSettings(url=store_process.settings.metrics.url, user="stranger")}
    )
    with pytest.raises(MetricsRefused, match=r"clickhouse\.password"):
        await Store.connect(stranger)


async def test_a_shipping_process_stays_small(
    tmp_path: Path, store_process: StoreProcess, store: Store
) -> None:
    """No numpy, no pandas: a gateway replica's whole budget is 250 MB."""
    spool = Spool(tmp_path / "a", segment_bytes=MIB, max_bytes=MIB)
    spool.append(make_record())
    spool.close()
    code = (
        "import asyncio, sys, psutil\n"
        "from pathlib import Path\n"
        "from foundry.metrics.writer import Shipper\n"
        "from foundry.settings import MetricsSettings, Settings\n"
        "async def main():\n"
        "    settings = Settings(home=Path(sys.argv[1]), metrics=MetricsSettings(url=sys.argv[2]))\n"
        "    ship = Shipper(Path(sys.argv[3]), settings, interval_s=1, batch_rows=1000)\n"
        "    print(await ship.ship_once()); await ship.stop()\n"
        "    print(psutil.Process().memory_info().rss // 2**20)\n"
        "    print([name for name in ('numpy', 'pandas', 'pyarrow', 'chdb') if name in sys.modules])\n"
        "asyncio.run(main())\n"
    )
    child = store_process.settings
    command = [sys.executable, "-c", code, str(child.home), child.metrics.url, str(tmp_path / "a")]
    ran = await asyncio.to_thread(
        subprocess.run,
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    rows, rss_mb, heavy = ran.stdout.splitlines()[-3:]
    assert (rows, heavy) == ("1", "[]"), ran.stderr
    assert int(rss_mb) < 120
    assert len(await ids(store)) == 1
