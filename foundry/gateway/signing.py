"""Ed25519 over snapshots: the control API signs, gateways verify.

What it does not know: transport, disk, versions (`gateway/snapshot.py`).
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from foundry.errors import ConfigurationError, FoundryError
from foundry.types.snapshot import SignedSnapshot, Snapshot


class SnapshotRejected(FoundryError):
    """A snapshot whose signature, key or content is wrong: it is not applied, the last good one stays."""

    code = "snapshot_rejected"


def public_key_id(key: Ed25519PublicKey) -> str:
    """First 16 hex digits of SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def private_key_from_pem(pem: str) -> Ed25519PrivateKey:
    """Parse a PEM private key. Raises ConfigurationError when it is not Ed25519."""
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(
            "the snapshot signing key is not an Ed25519 key", param="snapshot_signing.pem"
        )
    return key


def public_key_from_pem(pem: str) -> Ed25519PublicKey:
    """Parse a PEM public key. Raises ConfigurationError when it is not Ed25519."""
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError("the snapshot public key is not an Ed25519 key", param="snapshot_public.pem")
    return key


def sign(snapshot: Snapshot, key: Ed25519PrivateKey) -> SignedSnapshot:
    """Serialise once and sign those bytes."""
    payload = snapshot.model_dump_json()
    signature = base64.b64encode(key.sign(payload.encode())).decode()
    return SignedSnapshot(payload=payload, signature=signature, key_id=public_key_id(key.public_key()))


def verify(signed: SignedSnapshot, key: Ed25519PublicKey) -> Snapshot:
    """The snapshot inside, if its signature is the key's. Raises SnapshotRejected otherwise."""
    expected = public_key_id(key)
    if signed.key_id != expected:
        raise SnapshotRejected(
            f"the snapshot is signed by key {signed.key_id}, this gateway trusts {expected}"
        )
    try:
        key.verify(base64.b64decode(signed.signature, validate=True), signed.payload.encode())
    except (InvalidSignature, ValueError) as error:
        raise SnapshotRejected("the snapshot's signature does not match its content") from error
    return Snapshot.model_validate_json(signed.payload)
