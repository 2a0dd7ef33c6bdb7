"""What one API process holds while it runs, and how endpoints reach it.

What it does not know: nouns. Made once at start by `app.py`; endpoints take the annotated types below as parameters.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Depends, Request

from control_api.kit.changes import Changes
from control_api.kit.db import Database, ReadSession, WriteSession
from foundry.errors import ConfigurationError
from foundry.gateway.signing import private_key_from_pem
from foundry.settings import Settings


@dataclass
class Runtime:
    """Settings, secrets and connections of one API process."""

    settings: Settings
    database: Database
    changes: Changes
    pepper: bytes
    """Key of all key hashes."""
    signing_key: Ed25519PrivateKey
    cluster_token: str
    """Bearer that gateways show."""
    ray_token: str
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process was asked to stop: long polls end at once."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Runtime:
        """Read the secrets and make the pool; connects to nothing yet. Raises ConfigurationError."""
        url = database_url(settings)
        try:
            pepper = bytes.fromhex(settings.secret("key_pepper"))
        except ValueError as error:
            raise ConfigurationError(
                "the secret key_pepper is not hexadecimal: it must be 64 hex digits"
            ) from error
        return cls(
            settings=settings,
            database=Database(url),
            changes=Changes(url),
            pepper=pepper,
            signing_key=private_key_from_pem(settings.secret("snapshot_signing.pem")),
            cluster_token=settings.secret("cluster.token"),
            ray_token=settings.secret("ray.token"),
        )


def database_url(settings: Settings) -> str:
    """The database's URL: from the setting, the file it names, or the secret `database_url`. Raises ConfigurationError."""
    control = settings.control
    if control.database_url:
        return control.database_url
    if control.database_url_file is None:
        return settings.secret("database_url")
    try:
        return control.database_url_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(
            f"FOUNDRY_CONTROL__DATABASE_URL_FILE={control.database_url_file} cannot be read ({error.strerror})",
            param="database_url_file",
        ) from error


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeOf = Annotated[Runtime, Depends(_runtime)]


async def _read(runtime: RuntimeOf) -> AsyncIterator[ReadSession]:
    async with runtime.database.read() as session:
        yield session


async def _write(runtime: RuntimeOf) -> AsyncIterator[WriteSession]:
    async with runtime.database.write() as session:
        yield session


# Scope "function": the transaction ends after the endpoint returns and before its answer is sent, so that a failed
# commit is an error and a caller who has its answer reads its own write.
Reading = Annotated[ReadSession, Depends(_read, scope="function")]
"""Parameter type of endpoints that read: one READ ONLY transaction."""
Writing = Annotated[WriteSession, Depends(_write, scope="function")]
"""Parameter type of endpoints that write: one transaction."""
