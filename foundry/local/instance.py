"""One instance of the local platform: its identity, its ports, and where its files lie.

`<home>/instance.json` remembers the id and the ports across restarts, so that URLs stay what the user wrote down.
What it does not know: which processes run (`state.py`), how ports are found (`ports.py`), or what the secrets are.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from foundry.errors import ConfigurationError
from foundry.local.files import write_atomically

LOOPBACK = "127.0.0.1"
"""The only address that an instance listens on."""
ID_VARIABLE = "FOUNDRY_INSTANCE"
"""Environment variable that every process of an instance carries; `foundry down` ends those and no others."""
SERVICE_VARIABLE = "FOUNDRY_SERVICE"
"""Which service of the instance a process belongs to."""


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """TCP ports of one instance, all on loopback. Ranges are given by first port and count."""

    serve: int
    """The OpenAI-compatible endpoint: HAProxy, Serve's HTTP ingress."""
    control: int
    dashboard: int
    block: int
    """First port of the instance's own block; what follows is derived from it."""

    @property
    def postgres(self) -> int:
        """PostgreSQL."""
        return self.block

    @property
    def metrics(self) -> int:
        """ClickHouse's HTTP protocol."""
        return self.block + 1

    @property
    def gcs(self) -> int:
        """Ray's control store."""
        return self.block + 2

    @property
    def agent_http(self) -> int:
        """Ray dashboard agent, HTTP."""
        return self.block + 3

    @property
    def agent_grpc(self) -> int:
        """Ray dashboard agent, gRPC."""
        return self.block + 4

    @property
    def runtime_env(self) -> int:
        """Ray runtime-environment agent."""
        return self.block + 5

    @property
    def node_manager(self) -> int:
        """Raylet."""
        return self.block + 6

    @property
    def object_manager(self) -> int:
        """Raylet's object transfer."""
        return self.block + 7

    @property
    def ray_metrics(self) -> int:
        """Prometheus metrics of the Ray node."""
        return self.block + 8

    @property
    def dashboard_metrics(self) -> int:
        """Prometheus metrics of the Ray dashboard."""
        return self.block + 9

    @property
    def haproxy_metrics(self) -> int:
        """Prometheus metrics of HAProxy."""
        return self.block + 10

    @property
    def haproxy_stats(self) -> int:
        """HAProxy's statistics page."""
        return self.block + 11

    @property
    def fallback_http(self) -> int:
        """Serve's fallback proxy behind HAProxy, HTTP."""
        return self.block + 12

    @property
    def fallback_grpc(self) -> int:
        """Serve's fallback proxy behind HAProxy, gRPC."""
        return self.block + 13

    @property
    def ingress(self) -> range:
        """HTTP ports of Serve's replicas (direct ingress)."""
        return range(self.block + 20, self.block + 120)

    @property
    def ingress_grpc(self) -> range:
        """gRPC ports of Serve's replicas."""
        return range(self.block + 120, self.block + 180)

    @property
    def workers(self) -> range:
        """Ray's worker processes."""
        return range(self.block + 180, self.block + BLOCK_SIZE)

    def named(self) -> dict[str, int]:
        """The single ports by name, as `foundry status` shows them."""
        names = (
            "serve control dashboard postgres metrics gcs agent_http agent_grpc runtime_env node_manager"
            " object_manager ray_metrics dashboard_metrics haproxy_metrics haproxy_stats fallback_http fallback_grpc"
        )
        return {name: int(getattr(self, name)) for name in names.split()}


BLOCK_SIZE = 400
"""Ports in an instance's block: 20 single ones, 160 for replicas, 220 for Ray workers."""


class Layout(msgspec.Struct, frozen=True):
    """Where an instance keeps its files, all under its home."""

    home: Path

    @property
    def instance_file(self) -> Path:
        """Identity and ports."""
        return self.home / "instance.json"

    @property
    def run(self) -> Path:
        """State of the running platform: may be deleted while nothing runs."""
        return self.home / "run"

    @property
    def state_file(self) -> Path:
        """What the supervisor tells the CLI."""
        return self.run / "state.json"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.run / "supervisor.lock"

    @property
    def up_lock(self) -> Path:
        """Held by the CLI while it starts or stops a supervisor."""
        return self.run / "up.lock"

    @property
    def registered_file(self) -> Path:
        """Marker: the default deployments were registered once; what the user did since then stays."""
        return self.home / "registered.json"

    @property
    def secrets(self) -> Path:
        """Secret files, 0600 in a folder of 0700."""
        return self.home / "secrets"

    @property
    def logs(self) -> Path:
        """One log file per service."""
        return self.home / "logs"

    def log(self, service: str) -> Path:
        """The log file of a service."""
        return self.logs / f"{service}.log"

    def make(self) -> None:
        """Create the folders, closed to other users."""
        for folder in (self.home, self.run, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        self.secrets.chmod(0o700)


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `instance.json`."""

    id: str
    """Eight hex digits: names the Ray session folder and marks every process."""
    created_at: datetime
    ports: Ports | None = None
    """None until the first start has found some."""


class Instance(Remembered, frozen=True, kw_only=True):
    """Identity of one instance, and where it lives."""

    home: Path

    @property
    def layout(self) -> Layout:
        """Its files."""
        return Layout(self.home)

    @property
    def temp_dir(self) -> Path:
        """Ray's session folder. Short, because a Unix socket's path holds 107 bytes at most."""
        return Path("/tmp") / f"foundry-{self.id}"  # noqa: S108 - named by a random id, created 0700

    def known_ports(self) -> Ports:
        """The ports. Raises ConfigurationError when the instance never started."""
        if self.ports is None:
            raise ConfigurationError(f"the instance in {self.home} has never been started: run `foundry up`")
        return self.ports

    @property
    def openai_url(self) -> str:
        """Base URL for OpenAI clients."""
        return f"http://{LOOPBACK}:{self.known_ports().serve}/v1"

    @property
    def control_url(self) -> str:
        """Root of the control API."""
        return f"http://{LOOPBACK}:{self.known_ports().control}"

    @property
    def dashboard_url(self) -> str:
        """Root of the Ray dashboard."""
        return f"http://{LOOPBACK}:{self.known_ports().dashboard}"

    @property
    def admin_key(self) -> str:
        """The first virtual key. Raises ConfigurationError when it was never made."""
        path = self.layout.secrets / "admin.key"
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read ({error.strerror}): run `foundry up`") from error

    def save(self) -> None:
        """Write `instance.json`, atomically."""
        remembered = Remembered(id=self.id, created_at=self.created_at, ports=self.ports)
        write_atomically(
            self.layout.instance_file, msgspec.json.format(msgspec.json.encode(remembered), indent=2)
        )


def load(home: Path) -> Instance | None:
    """The instance in `home`, or None when there is none. Raises ConfigurationError when its file is damaged."""
    path = Layout(home).instance_file
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=Remembered)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f"{path} is damaged ({error}): move it away and run `foundry up`; databases and models are kept"
        ) from error
    return Instance(id=stored.id, created_at=stored.created_at, ports=stored.ports, home=home)


def load_or_create(home: Path) -> Instance:
    """The instance in `home`; a new one is given an id and its folders."""
    found = load(home)
    if found is None:
        found = Instance(id=secrets.token_hex(4), home=home, created_at=datetime.now(UTC))
        found.layout.make()
        found.save()
    found.layout.make()
    return found
