"""The secrets of an instance: generated at the first start, files of 0600 in a folder of 0700 (docs/contracts.md).

An existing file is never replaced: deleting one by hand makes a new one, with the consequences of that.
What it does not know: who reads which secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from foundry.errors import ConfigurationError
from foundry.local.files import write_atomically
from foundry.local.instance import LOOPBACK

_HEX_BYTES: Final = 32


def _hex() -> str:
    return secrets.token_hex(_HEX_BYTES)


def _admin_key() -> str:
    from foundry.gateway.keys import new_key

    return new_key()


_GENERATORS: Final[dict[str, Callable[[], str]]] = {
    "admin.key": _admin_key,
    "key_pepper": _hex,
    "cluster.token": _hex,
    "engine.token": _hex,
    "ray.token": _hex,
    "postgres.password": _hex,
    "clickhouse.password": _hex,
}
"""File name to generator. The snapshot pair and the database URL depend on each other and are made below."""


def ensure(folder: Path) -> list[str]:
    """Generate what is missing; the names of the new files. Raises ConfigurationError for half a key pair."""
    made: list[str] = []
    for name, generate in _GENERATORS.items():
        if not (folder / name).exists():
            _write(folder / name, generate())
            made.append(name)
    return made + _ensure_pair(folder)


def write_database_url(folder: Path, port: int) -> Path:
    """Write the control database's URL for this start's port; the file."""
    password = (folder / "postgres.password").read_text(encoding="utf-8").strip()
    path = folder / "database_url"
    _write(path, f"postgresql://foundry:{quote(password, safe='')}@{LOOPBACK}:{port}/foundry")
    return path


def _ensure_pair(folder: Path) -> list[str]:
    names = ["snapshot_signing.pem", "snapshot_public.pem"]
    present = [name for name in names if (folder / name).exists()]
    if len(present) == len(names):
        return []
    if present == names[1:]:
        raise ConfigurationError(
            f"{folder / names[0]} is missing while {names[1]} is there: restore it, or delete {names[1]} for a new pair"
        )
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if present:
        key = serialization.load_pem_private_key((folder / names[0]).read_bytes(), password=None)
        made = names[1:]
    else:
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(folder / names[0], private.decode())
        made = names
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write(folder / names[1], public.decode())
    return made


def _write(path: Path, text: str) -> None:
    write_atomically(
        path, text.encode() if text.endswith("\n") else f"{text}\n".encode(), mode=0o600, durable=True
    )
