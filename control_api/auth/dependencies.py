"""FastAPI dependencies that authenticate: a virtual key for people and tools, the cluster token for gateways.

What it does not know: what the endpoints do. Only this module and the open endpoints of `app.py` decide who comes in.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from control_api.auth.subject import Permission, Subject
from control_api.keys import service as keys
from control_api.kit.runtime import RuntimeOf
from foundry.errors import AuthenticationFailed, PermissionDenied

_bearer = HTTPBearer(auto_error=False, description="a virtual key with the scope `admin`")
_cluster_bearer = HTTPBearer(
    auto_error=False, scheme_name="ClusterToken", description="the secret `cluster.token`"
)


async def _authenticate(
    runtime: RuntimeOf, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Subject:
    if credentials is None:
        raise AuthenticationFailed("no key: send `Authorization: Bearer fk-...`")
    async with runtime.database.read() as session:  # ends before the endpoint's own transaction begins
        key = await keys.authenticate(session, runtime.pepper, credentials.credentials)
    return Subject(
        key_id=key.id,
        organization_id=key.organization_id,
        project_id=key.project_id,
        scopes=tuple(key.scopes),
    )


def require(permission: Permission) -> Callable[..., Awaitable[Subject]]:
    """A dependency that lets a caller in who has this permission, and gives the endpoint its Subject."""

    async def permitted(subject: Annotated[Subject, Depends(_authenticate)]) -> Subject:
        if not subject.permits(permission):
            raise PermissionDenied(
                f"this key's scopes ({', '.join(subject.scopes)}) do not permit {permission}: use a key with `admin`"
            )
        return subject

    return permitted


async def require_cluster(
    runtime: RuntimeOf, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_cluster_bearer)]
) -> None:
    """A dependency that lets only a gateway in: the bearer is the secret `cluster.token`."""
    shown = credentials.credentials if credentials else ""
    if not hmac.compare_digest(shown.encode(), runtime.cluster_token.encode()):
        raise AuthenticationFailed("not a gateway: the bearer must be the secret cluster.token")
