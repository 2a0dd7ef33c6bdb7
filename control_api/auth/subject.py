"""The caller, and what its scopes permit.

What it does not know: HTTP, databases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Permission = Literal[
    "organizations:read",
    "projects:read",
    "keys:read",
    "keys:write",
    "deployments:read",
    "deployments:write",
    "routes:read",
    "routes:write",
    "limits:read",
    "limits:write",
    "guardrails:read",
    "guardrails:write",
    "blocks:read",
    "blocks:write",
    "configuration:read",
    "providers:read",
    "clusters:read",
    "usage:read",
]
PERMISSIONS: frozenset[str] = frozenset(get_args(Permission))
PERMISSIONS_OF_SCOPE: dict[str, frozenset[str]] = {"admin": PERMISSIONS, "inference": frozenset()}
"""What a key's scope permits on the control API. `inference` is for the gateway only."""


@dataclass(frozen=True)
class Subject:
    """An authenticated caller."""

    key_id: str
    organization_id: str
    project_id: str
    scopes: tuple[str, ...]

    def permits(self, permission: Permission) -> bool:
        """Whether any of its scopes carries the permission."""
        return any(permission in PERMISSIONS_OF_SCOPE.get(scope, frozenset()) for scope in self.scopes)
