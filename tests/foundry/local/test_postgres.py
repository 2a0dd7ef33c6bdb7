"""The embedded PostgreSQL: made, stopped, killed, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from foundry.errors import ConfigurationError, ProcessError
from foundry.local.postgres import Postgres, database_url
from foundry.local.postgres_files import find_binaries, runnable_binaries, state_folder, unprivileged_account
from tests.support.postgres import FAST, PASSWORD, postgres_home

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).parents[3]


@pytest.fixture
def home() -> Iterator[Path]:
    with postgres_home() as folder:
        (folder / "secrets").mkdir()
        (folder / "secrets" / "postgres.password").write_text(PASSWORD, encoding="utf-8")
        yield folder


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def wait_until(true: Callable[[], bool], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # bounded poll


def launch(home: Path, port: int) -> tuple[subprocess.Popen[str], int]:
    """The foreground process as the supervisor runs it, and its server's pid once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "foundry.local.postgres", "--home", str(home), "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready "):
            words = dict(word.split("=", 1) for word in line.split()[1:])
            return process, int(words["pid"])
    raise AssertionError(f"it ended with status {process.wait()} before it was ready")


def end(process: subprocess.Popen[str], number: int) -> int:
    process.send_signal(number)
    status = process.wait(20)
    assert process.stdout is not None
    process.stdout.close()
    return status


def test_a_fresh_home_becomes_a_server_that_demands_the_password(
    home: Path, make_port: Callable[[], int]
) -> None:
    postgres = Postgres(home, make_port(), PASSWORD, options=FAST)
    postgres.start()
    try:
        with psycopg.connect(database_url(PASSWORD, postgres.port)) as database:
            who = database.execute(
                "SELECT usename::text, usesuper FROM pg_user WHERE usename = current_user"
            ).fetchone()
            assert who == ("foundry", False)
            assert database.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            assert database.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(database_url("wrong", postgres.port))
        assert postgres.pid is not None
        assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0
        with pytest.raises(ProcessError, match=str(postgres.port)):
            Postgres(home / "second", postgres.port, PASSWORD, options=FAST).start()
    finally:
        postgres.stop()
    assert postgres.pid is None


def test_data_survives_stop_kill_of_the_server_and_kill_of_the_launcher(
    home: Path, make_port: Callable[[], int]
) -> None:
    port = make_port()
    url = database_url(PASSWORD, port)
    process, _server = launch(home, port)
    with psycopg.connect(url) as database:
        database.execute("CREATE TABLE kept (n int)")
        database.execute("INSERT INTO kept VALUES (1)")
    assert end(process, signal.SIGTERM) == 0

    process, server = launch(home, port)
    with psycopg.connect(url) as database:
        database.execute("INSERT INTO kept VALUES (2)")
    os.kill(server, signal.SIGKILL)  # leaves postmaster.pid behind
    assert process.wait(20) == 1
    assert process.stdout is not None
    process.stdout.close()

    process, server = launch(home, port)
    with psycopg.connect(url) as database:
        database.execute("INSERT INTO kept VALUES (3)")
    end(process, signal.SIGKILL)
    wait_until(lambda: not alive(server))  # it dies with its parent

    process, _server = launch(home, port)
    with psycopg.connect(url) as database:
        assert database.execute("SELECT n FROM kept ORDER BY n").fetchall() == [(1,), (2,), (3,)]
    assert end(process, signal.SIGINT) == 0


def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(
    home: Path, make_port: Callable[[], int]
) -> None:
    postgres = Postgres(home, make_port(), PASSWORD, options=FAST)
    postgres.start()
    postgres.stop()
    pid_file = postgres.data / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{postgres.data}\n0\n", encoding="utf-8")
    postgres.start()
    postgres.stop()
    assert not pid_file.exists()


def test_a_start_that_was_cut_off_leaves_nothing_in_the_way(home: Path, make_port: Callable[[], int]) -> None:
    half = home / "postgres" / "new-cut-off" / "data"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n", encoding="utf-8")
    postgres = Postgres(home, make_port(), PASSWORD, options=FAST)
    postgres.start()
    postgres.stop()
    assert not half.exists()
    assert postgres.data.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root switches user")
def test_a_home_that_nobody_may_pass_keeps_its_permissions(home: Path, make_port: Callable[[], int]) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    shared = home / "shared"
    account = unprivileged_account()
    state = state_folder(closed, account, shared=shared)
    assert state.is_relative_to(shared)
    assert (closed / "postgres").resolve() == state
    assert state_folder(closed, account, shared=shared) == state  # found again
    other = home / "other"
    other.mkdir(mode=0o700)
    assert state_folder(other, account, shared=shared) != state  # a new home never meets an old one's data
    install = closed / "pginstall" / "bin"
    install.mkdir(parents=True)
    (install / "postgres").write_text("x", encoding="utf-8")
    copy = runnable_binaries(install, account, shared=shared)
    assert (copy / "postgres").read_text(encoding="utf-8") == "x"
    assert runnable_binaries(install, account, shared=shared) == copy
    assert closed.stat().st_mode & 0o777 == 0o700
    postgres = Postgres(closed, make_port(), PASSWORD, options=FAST)
    assert postgres.state == state
    postgres.start()
    postgres.stop()


def test_binaries_are_looked_for_where_the_operator_says(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        find_binaries(str(tmp_path))
    assert (find_binaries() / "initdb").is_file()


def test_a_missing_password_is_told(tmp_path: Path, make_port: Callable[[], int]) -> None:
    command = [
        sys.executable,
        "-m",
        "foundry.local.postgres",
        "--home",
        str(tmp_path),
        "--port",
        str(make_port()),
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "postgres.password" in ended.stderr
