"""Virtual keys: how they look, and the keyed hash under which they are known.

The control API makes keys and stores hashes; the gateway hashes what a caller sends and looks it up in its
snapshot. What it does not know: who owns a key (`types/snapshot.py`), or where it is stored.
"""

from __future__ import annotations

import hmac
import secrets

KEY_PREFIX = "fk-"
"""Every virtual key starts with it, so that secret scanners can find a leaked one."""
_KEY_BYTES = 32


def new_key() -> str:
    """A fresh key with 256 bits of randomness, e.g. "fk-Zm9v..." (46 characters)."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def display_prefix(key: str) -> str:
    """The part of a key that may be shown again: its first ten characters."""
    return key[:10]


def hash_key(pepper: bytes, key: str) -> str:
    """Hex HMAC-SHA256 of the key under the instance's pepper (64 characters).

    A keyed hash, not a password hash: keys carry 256 random bits, so stretching would only slow the request
    path.
    """
    return hmac.digest(pepper, key.encode(), "sha256").hex()
