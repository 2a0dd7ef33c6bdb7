"""Settings, read once: the only module that reads the environment and the settings part of `foundry.toml`.

Precedence, high to low: environment (`FOUNDRY_HOME`, `FOUNDRY_GATEWAY__MAX_BODY_BYTES`, ...), the file named
by `FOUNDRY_CONFIG` (default: `$FOUNDRY_HOME/foundry.toml`, may be missing), the defaults below. The same file
may hold the gateway's configuration (`DECLARED`), which `foundry.declare` reads; any other name is an error with
line and column. Secrets have no defaults: they are files (mode 0600) that `foundry up` generates, or that the
operator mounts; a missing one is a `ConfigurationError` that names it. What it does not know: who uses which group.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from foundry.errors import ConfigurationError
from foundry.located import Located, Problem, did_you_mean, parse, problems_of

DECLARED = ("providers", "routes", "limits", "guardrails", "blocks", "prices")
"""Top-level tables of the file that are the gateway's configuration (`foundry.declare`), not settings."""


def _home() -> Path:
    return Path(os.environ.get("FOUNDRY_HOME") or Path.home() / ".foundry").expanduser().absolute()


class Group(BaseModel):
    """Base of the groups: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GatewaySettings(Group):
    """The gateway replica."""

    cluster: str = "local"
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Larger request bodies are refused with 413."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    read_timeout_s: float = Field(default=300.0, gt=0)
    """Longest silence of an upstream, before its first byte or between two chunks."""
    body_timeout_s: float = Field(default=30.0, gt=0)
    """Longest silence of a caller in the middle of its request body."""
    spool_segment_bytes: int = Field(default=8 * 1024 * 1024, ge=4096)
    spool_max_bytes: int = Field(default=2 * 1024 * 1024 * 1024, ge=1024 * 1024)
    """Above this the gateway answers 503 instead of serving unmetered; it never drops the oldest silently."""
    ship_interval_s: float = Field(default=1.0, gt=0)
    ship_batch_rows: int = Field(default=1000, ge=1)
    snapshot_wait_s: float = Field(default=25.0, gt=0)
    """How long one long-poll for a newer snapshot stays open."""
    guard_workers: int = Field(default=1, ge=1, le=64)
    """Worker processes for guards with large or slow libraries; none is started before a profile needs one."""
    country_database: Path | None = None
    """A MaxMind file (`.mmdb`), for blocking rules that name countries."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Addresses and networks of proxies whose `x-forwarded-for` is believed."""
    object_store_url: str | None = None
    """Where files, batches and stored responses are kept: `s3://bucket/prefix`, `gs://...`, `az://...`, with the cloud's own chain of
    credentials. All replicas share it. None: the folder `objects` of FOUNDRY_HOME."""
    max_file_bytes: int = Field(default=512 * 1024 * 1024, ge=1024)
    """Larger uploads to /v1/files are refused with 413; they are streamed to the store, so memory is no bound."""
    valkey_url: str | None = None
    """`valkey://[user:password@]host:port/db` (or `valkeys://` for TLS) of the cache that all replicas share; None: routes that ask for
    it are cached in each replica's memory."""
    cache_memory_bytes: int = Field(default=128 * 1024 * 1024, ge=0)
    """Answers that one replica keeps in memory; the least recently used go first."""
    cache_max_answer_bytes: int = Field(default=1024 * 1024, ge=0)
    """Larger answers are not kept."""
    cache_vector_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Vectors of the semantic cache in one replica's memory."""
    batch_concurrency: int = Field(default=8, ge=1)
    """Lines of batches in flight to one route from one replica."""
    batches_at_once: int = Field(default=4, ge=0)
    """Batches that one replica runs at a time; 0: it runs none."""
    batch_yield_above: int = Field(default=64, ge=0)
    """No further line of a batch is begun while more live requests than this are in flight at the replica."""
    batch_poll_s: float = Field(default=5.0, gt=0)
    """How often a replica looks for batches that nobody runs."""
    batch_lease_s: float = Field(default=30.0, gt=0)
    """A replica that has been silent for so long is believed dead, and its batches are carried on by others."""
    response_retention_s: float = Field(default=30 * 24 * 3600.0, gt=0)
    """How long responses are stored (`store: true`, which is OpenAI's default)."""
    background_responses: int = Field(default=256, ge=0)
    """Responses that one replica runs in the background at a time."""
    state_sweep_s: float = Field(default=3600.0, gt=0)
    """How often files and stored responses whose time is over are deleted."""


class ControlSettings(Group):
    """The control API, and how others reach it."""

    url: str = "http://127.0.0.1:8100"
    host: str = "127.0.0.1"
    port: int = 8100
    database_url: str | None = None
    """`postgresql://user:password@host:port/name`; `foundry up` sets it."""
    database_url_file: Path | None = None
    """A file that holds `database_url` (preferred: keeps the password out of the environment)."""


class MetricsSettings(Group):
    """The metrics store: a ClickHouse server, or the embedded one that speaks its protocol."""

    url: str = "http://127.0.0.1:8123"
    user: str = "foundry"
    database: str = "foundry"


class RaySettings(Group):
    """The Ray cluster that this instance deploys to."""

    dashboard_url: str = "http://127.0.0.1:8265"
    serve_url: str = "http://127.0.0.1:8000"
    """Root of Serve's HTTP ingress as the gateway and clients on this machine reach it."""
    serve_host: str = "127.0.0.1"
    serve_port: int = 8000


class Settings(BaseSettings):
    """All of it. Use `load()`; construct directly only in tests."""

    model_config = SettingsConfigDict(
        env_prefix="FOUNDRY_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        nested_model_default_partial_update=True,
    )

    config: Path | None = None
    """The configuration file (`FOUNDRY_CONFIG`); None: `$FOUNDRY_HOME/foundry.toml`."""
    home: Path = Field(default_factory=_home)
    """Where an instance keeps its state: databases, spool, models, logs, secrets."""
    secrets_dir: Path | None = None
    """Where secret files lie; None: `$FOUNDRY_HOME/secrets`."""
    log_level: str = "INFO"
    gateway: GatewaySettings = GatewaySettings()
    control: ControlSettings = ControlSettings()
    metrics: MetricsSettings = MetricsSettings()
    ray: RaySettings = RaySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then the TOML file; no dotenv, no secrets folder of pydantic's."""
        del dotenv_settings, file_secret_settings
        path = Path(os.environ.get("FOUNDRY_CONFIG") or _home() / "foundry.toml").expanduser()
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=_from_file(path))

    @property
    def config_file(self) -> Path:
        """Where the configuration file lies, or would lie."""
        return (self.config or self.home / "foundry.toml").expanduser()

    def secret(self, name: str) -> str:
        """Text of the secret file `name`, stripped. Raises ConfigurationError when it is missing or empty."""
        path = (self.secrets_dir or self.home / "secrets") / name
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(
                f"secret file {path} cannot be read ({error.strerror}): run `foundry up`, or mount it there",
                param=name,
            ) from error
        if not text:
            raise ConfigurationError(f"secret file {path} is empty", param=name)
        return text


def problems(document: Located) -> list[Problem]:
    """What is wrong with the settings part of a file, and with its top-level names."""
    found: list[Problem] = []
    known = {*Settings.model_fields, *DECLARED} - {"config"}
    for name, value in document.values.items():
        if name == "config":
            words = "says where this file is, so it cannot stand in it: set FOUNDRY_CONFIG"
            found.append(document.problem((name,), words, key=True))
        elif name not in known:
            kind = "table" if isinstance(value, dict) else "key"
            found.append(document.problem((name,), f"unknown {kind}; {did_you_mean(name, known)}", key=True))
        elif name in Settings.model_fields:
            found += _group_problems(document, name, value)
    return found


def _group_problems(document: Located, name: str, value: object) -> list[Problem]:
    kind: Any = Settings.model_fields[name].annotation  # Any: annotations have no common type
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else Settings
        return problems_of(error, document, (name,), model)
    return []


def settings_part(values: Mapping[str, object]) -> dict[str, object]:
    """The part of a file's values that are settings."""
    return {name: value for name, value in values.items() if name in Settings.model_fields}


def _from_file(path: Path) -> dict[str, object]:
    """The settings in a file; empty when there is none. Raises ConfigurationError with every problem and its place."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", param="FOUNDRY_CONFIG") from error
    document, broken = parse(text)
    found = [broken] if broken else problems(document)
    if found:
        raise ConfigurationError("\n".join(problem.render(str(path)) for problem in found), param=str(path))
    return settings_part(document.values)


@cache
def load() -> Settings:
    """The process's settings, read at the first call. Raises ConfigurationError for a wrong file or variable."""
    try:
        return Settings()
    except ValidationError as error:
        words = [f"{_variable(item['loc'])}: {item['msg']}" for item in error.errors(include_url=False)]
        raise ConfigurationError("\n".join(words)) from error


def _variable(location: tuple[int | str, ...]) -> str:
    """The environment variable of a setting: what the file says was right, so the environment is wrong."""
    return "FOUNDRY_" + "__".join(str(part).upper() for part in location)


def vendor_secret(variable: str) -> str:
    """A vendor's API key from the environment. Raises ConfigurationError naming the variable to set."""
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigurationError(
            f"the environment variable {variable} is not set: export it before `foundry up`", param=variable
        )
    return value


def environment() -> Mapping[str, str]:
    """A copy of the process's environment, for starting children."""
    return dict(os.environ)
