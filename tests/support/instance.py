"""A FOUNDRY_HOME as `foundry up` leaves it: secrets, and a signed snapshot made by the test."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from foundry.gateway.keys import hash_key, new_key
from foundry.gateway.signing import sign
from foundry.settings import ControlSettings, GatewaySettings, Settings
from foundry.types.snapshot import KeyEntry, RouteEntry, Snapshot


@dataclass
class Home:
    """The pieces that tests need to make keys, routes and settings."""

    path: Path
    pepper: bytes
    signer: Ed25519PrivateKey

    @classmethod
    def make(cls, path: Path) -> Home:
        folder = path / "secrets"
        folder.mkdir(parents=True)
        pepper, signer = secrets.token_bytes(32), Ed25519PrivateKey.generate()
        (folder / "key_pepper").write_text(pepper.hex())
        pem = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "snapshot_public.pem").write_bytes(pem)
        for name in ("engine.token", "cluster.token", "clickhouse.password"):
            (folder / name).write_text(secrets.token_urlsafe(16))
        return cls(path, pepper, signer)

    def settings(self, **gateway: object) -> Settings:
        # Port 9 (discard) is closed: the control API and the metrics store are down, on purpose.
        return Settings(
            home=self.path,
            gateway=GatewaySettings.model_validate({"cluster": "test", **gateway}),
            control=ControlSettings(url="http://127.0.0.1:9"),
        )

    def key(self, **fields: object) -> tuple[str, KeyEntry]:
        key = new_key()
        base = {
            "key_id": "key_" + key[3:9], "key_hash": hash_key(self.pepper, key), "organization_id": "org_1",
            "project_id": "proj_1", "scopes": ("inference",),
        }  # fmt: skip
        return key, KeyEntry.model_validate({**base, **fields})

    def write_snapshot(
        self, keys: list[KeyEntry], routes: list[RouteEntry], version: int = 1, **more: object
    ) -> Snapshot:
        fields: dict[str, object] = dict(
            cluster="test",
            version=version,
            issued_at=datetime.now(UTC),
            keys=tuple(keys),
            routes=tuple(routes),
            **more,
        )
        snapshot = Snapshot.model_validate(fields)
        path = self.path / "snapshots" / "test.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(sign(snapshot, self.signer).model_dump_json())
        return snapshot
