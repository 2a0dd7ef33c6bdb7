"""The embedded store speaks ClickHouse's protocol well enough for clickhouse-connect, sync and async, unchanged."""

from __future__ import annotations

import asyncio
import base64
import gzip
import http.client
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickhouse_connect
import lz4.frame
import pytest
from backports import zstd
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from foundry.metrics.http_request import head, statement
from tests.foundry.metrics.conftest import PASSWORD, StoreProcess

COLUMNS = "(id String, n UInt64, d Decimal(38, 18), at DateTime64(6, 'UTC'))"
ROW = b'{"id":"%s","n":5,"d":"1E-7","at":"2026-01-01T00:00:00.5Z"}\n'


def connection(
    child: StoreProcess, **changes: Any
) -> dict[str, Any]:  # why: keyword arguments of two client factories
    return {"host": "127.0.0.1", "port": child.port, "username": "foundry", "password": PASSWORD, **changes}


@pytest.fixture
def client(store_process: StoreProcess) -> Iterator[Client]:
    made = clickhouse_connect.get_client(**connection(store_process))
    made.command("CREATE DATABASE IF NOT EXISTS trial")
    made.database = "trial"
    made.command(f"CREATE OR REPLACE TABLE t {COLUMNS} ENGINE = MergeTree ORDER BY id")
    yield made
    made.close()


def test_insert_and_parameters(client: Client) -> None:
    row = [
        "it's \t\\ é",
        2**64 - 1,
        Decimal("12345678901234567890.123456789012345678"),
        datetime(2026, 1, 1, tzinfo=UTC),
    ]
    assert client.insert("t", [row], column_names=["id", "n", "d", "at"]).written_rows == 1
    asked = {"id": row[0], "at": datetime(2026, 1, 1, tzinfo=UTC), "n": [1, 2**64 - 1]}
    sql = "SELECT n, d FROM t WHERE id = {id:String} AND at = {at:DateTime64(6, 'UTC')} AND n IN {n:Array(UInt64)}"
    assert client.query(sql, parameters=asked).result_rows == [(row[1], row[2])]
    long = client.query(
        "SELECT length({x:String}) AS n", parameters={"x": "y" * 100_000}
    )  # goes as a multipart form
    assert long.result_rows == [(100_000,)]


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("lz4", lz4.frame.compress), ("zstd", zstd.compress)]
)
def test_compressed_bodies(client: Client, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    body = b"".join(ROW % str(number).encode() for number in range(100))
    assert (
        client.raw_insert(
            "t", insert_block=compress(body), fmt="JSONEachRow", compression=encoding
        ).written_rows
        == 100
    )
    with pytest.raises(DatabaseError) as caught:
        client.raw_insert("t", insert_block=b"not compressed", fmt="JSONEachRow", compression=encoding)
    assert caught.value.code == 271
    assert client.command("SELECT count() FROM t") == 100


def test_formats_streams_and_settings(client: Client) -> None:
    assert client.query_arrow("SELECT number FROM numbers(3)").to_pydict() == {"number": [0, 1, 2]}
    assert client.raw_query("SELECT 1 AS one", fmt="JSONEachRow") == b'{"one":1}\n'
    with client.query_rows_stream("SELECT number FROM numbers(100000)") as stream:
        assert sum(row[0] for row in stream) == 99999 * 100000 // 2
    assert client.query("SELECT * FROM t LIMIT 0").column_names == ("id", "n", "d", "at")
    assert client.command("SELECT getSetting('max_block_size')", settings={"max_block_size": 77}) == 77
    assert client.command("SELECT getSetting('max_block_size')") != 77


def test_a_session_keeps_temporary_tables_and_settings_to_itself(
    store_process: StoreProcess, client: Client
) -> None:
    client.command("CREATE TEMPORARY TABLE mine (a UInt8)")
    client.command("INSERT INTO mine VALUES (1), (2)")
    assert client.command("SELECT sum(a) FROM mine", settings={"max_threads": 1}) == 3
    other = clickhouse_connect.get_client(**connection(store_process))
    with pytest.raises(DatabaseError) as caught:
        other.query("SELECT * FROM mine")
    assert caught.value.code == 60
    other.close()


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT * FROM nowhere", 60),
        ("SELEC 1 FROM", 62),
        ("SELECT throwIf(1)", 395),
        ("SELECT {missing:String}", 456),
    ],
)
def test_errors_carry_clickhouses_code(client: Client, sql: str, code: int) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query(sql)
    assert caught.value.code == code


def test_a_bad_row_stores_nothing_of_its_batch(client: Client) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.raw_insert("t", insert_block=ROW % b"good" + b'{"id":"bad","n":"x"}\n', fmt="JSONEachRow")
    assert caught.value.code in {26, 27, 72}
    assert client.command("SELECT count() FROM t") == 0


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"username": "somebody"}, {"password": ""}])
def test_a_wrong_user_is_refused(store_process: StoreProcess, changes: dict[str, str]) -> None:
    with pytest.raises(DatabaseError) as caught:
        clickhouse_connect.get_client(**connection(store_process, **changes))
    assert caught.value.code == 516


def raw(
    child: StoreProcess, method: str, url: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    link = http.client.HTTPConnection("127.0.0.1", child.port, timeout=10)
    link.request(method, url, body=body, headers=headers)
    answer = link.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    link.close()
    return found


def test_plain_http(store_process: StoreProcess) -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(f"foundry:{PASSWORD}".encode()).decode()}
    status, headers, body = raw(
        store_process, "GET", "/?query=SELECT%201&default_format=JSONEachRow&query_id=q-1", basic
    )
    assert (status, body, headers["x-clickhouse-query-id"]) == (200, b'{"1":1}\n', "q-1")
    assert headers["x-clickhouse-format"] == "JSONEachRow"
    status, headers, _ = raw(store_process, "GET", "/?query=CREATE%20DATABASE%20sneaky", basic)
    assert (status, headers["x-clickhouse-exception-code"]) == (500, "164"), "GET may only read"
    status, headers, _ = raw(store_process, "POST", "/", {}, b"SELECT 1")
    assert (status, headers["x-clickhouse-exception-code"]) == (403, "516")
    assert raw(store_process, "GET", "/elsewhere", basic)[0] == 404
    assert raw(store_process, "POST", "/", basic, b"  ")[0] == 400
    assert raw(store_process, "POST", "/?no-such%20setting=1", basic, b"SELECT 1")[0] == 404
    assert raw(store_process, "GET", "/ping", {})[2] == b"Ok.\n"


async def test_async_client_and_ping_while_busy(store_process: StoreProcess) -> None:
    client = await clickhouse_connect.get_async_client(**connection(store_process))
    busy = asyncio.create_task(client.query("SELECT sum(sipHash64(number)) FROM numbers(30000000)"))
    await asyncio.sleep(0)
    assert await client.ping()
    assert await client.command("SELECT 1") == 1
    assert not busy.done()
    await busy
    with pytest.raises(DatabaseError) as caught:
        await client.query("SELECT count() FROM numbers(100000000000)", settings={"max_execution_time": 0.2})
    assert caught.value.code == 159
    counts = await asyncio.gather(
        *(client.command("SELECT count() FROM numbers({n:UInt32})", {"n": n}) for n in range(20))
    )
    assert counts == list(range(20))
    await client.close()


@pytest.mark.parametrize(
    ("url", "body", "sql", "fmt", "data"),
    [
        ({"query": "INSERT INTO t FORMAT JSONEachRow"}, b"{}", "INSERT INTO t", "JSONEachRow", b"{}"),
        (
            {},
            b"INSERT INTO `a format B` (x) FORMAT Native\n\x00\xff",
            "INSERT INTO `a format B` (x)",
            "Native",
            b"\x00\xff",
        ),
        (
            {},
            b"insert into t settings a='format X' format CSV\n1",
            "insert into t settings a='format X'",
            "CSV",
            b"1",
        ),
        (
            {"query": "INSERT INTO t VALUES"},
            b"('FORMAT CSV x')",
            "INSERT INTO t VALUES\n('FORMAT CSV x')",
            "",
            None,
        ),
        ({}, b"INSERT INTO t SELECT 1 FORMAT Null", "INSERT INTO t SELECT 1 FORMAT Null", "", None),
    ],
)
def test_statements_are_taken_apart(
    url: dict[str, str], body: bytes, sql: str, fmt: str, data: bytes | None
) -> None:
    query = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in url.items()).encode()
    found = statement(head("POST", query, []), body)
    assert (found.sql, found.data_format, found.data) == (sql, fmt, data)


def test_one_process_per_folder(store_process: StoreProcess) -> None:
    command = [
        sys.executable,
        "-m",
        "foundry.metrics.embedded",
        "--path",
        str(store_process.home / "clickhouse"),
        "--port",
        "1",
    ]
    root = Path(__file__).resolve().parents[3]
    environment = {"FOUNDRY_HOME": str(store_process.home), "PYTHONPATH": str(root)}
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "another process holds the metrics store" in second.stdout


@pytest.mark.chaos
def test_kill_9_of_the_store_loses_no_acknowledged_row(tmp_path: Path, make_port: Callable[[], int]) -> None:
    child = StoreProcess(tmp_path / "home", make_port())
    acknowledged = 0
    for _ in range(2):
        child.start()
        client = clickhouse_connect.get_client(**connection(child))
        client.command(f"CREATE TABLE IF NOT EXISTS t {COLUMNS} ENGINE = MergeTree ORDER BY id")
        for _ in range(15):
            body = b"".join(ROW % str(acknowledged + number).encode() for number in range(20))
            client.raw_insert("t", insert_block=body, fmt="JSONEachRow")
            acknowledged += 20
        assert child.stop(signal.SIGKILL) == -signal.SIGKILL
        client.close()
    child.start()
    client = clickhouse_connect.get_client(**connection(child))
    assert client.command("SELECT count(), uniqExact(id) FROM t") == [str(acknowledged)] * 2
    client.close()
    assert child.stop() == 0
