"""The typed, synchronous SDK of the control API; the CLI and notebooks use it.

    with ControlClient("http://127.0.0.1:8100", "fk-...") as control:
        key = control.keys.create("alice", allowed_routes=["smollm2"]).key

Every failure is a FoundryError: the class that the API raised, found by its `code`; `Unavailable` when nothing answers.
What it does not know: inference (use the OpenAI client), Ray, web frameworks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Generic, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from foundry.errors import FoundryError, InvalidParameter, Unavailable, UpstreamRefused, UpstreamTimeout
from foundry.settings import Settings
from foundry.types.cache import CachePolicy
from foundry.types.control import (
    BlockRead,
    ClusterRead,
    Declared,
    DeploymentRead,
    GatewayConfigRead,
    GatewayRead,
    GuardrailRead,
    Health,
    KeyCreate,
    KeyCreated,
    KeyRead,
    LimitRead,
    OrganizationRead,
    Page,
    Problem,
    ProjectRead,
    ProviderRead,
    RouteRead,
    RouteWrite,
    Scope,
    TargetSpec,
)
from foundry.types.deployment import DeploymentSpec, Task
from foundry.types.guardrails import BlockRule, GuardrailProfile
from foundry.types.limits import LimitEntry
from foundry.types.routing import Routing

Model = TypeVar("Model", bound=BaseModel)
UsageRow = dict[str, JsonValue]
"""A usage record as JSON: the fields of `foundry.types.usage.UsageRecord`, money as a decimal string."""
Query = Mapping[str, str | int]
_TIMEOUT_S = 30.0
_PAGE = 1000


def _by_code() -> dict[str, type[FoundryError]]:
    found: dict[str, type[FoundryError]] = {}
    waiting: list[type[FoundryError]] = [FoundryError]
    while waiting:
        kind = waiting.pop(0)
        found.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return found


def error_from(response: httpx.Response) -> FoundryError:
    """The error that a response tells of: its own class if the code is known, with the API's words and status."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        words = response.text[:200] or response.reason_phrase
        return UpstreamRefused(
            f"{response.url} answered {response.status_code}: {words}", status=response.status_code
        )
    kind = _by_code().get(problem.code, FoundryError)
    if kind.__init__ is not FoundryError.__init__:
        kind = FoundryError  # it needs more than a message
    retry_after = response.headers.get("retry-after", "")
    error = kind(
        f"{problem.detail} (request {problem.request_id})",
        param=problem.param,
        retry_after_s=float(retry_after) if retry_after.isdigit() else None,
    )
    error.status = problem.status
    return error


class _Transport:
    """One HTTP connection pool: JSON in, models out, problems raised."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def call(
        self, method: str, path: str, *, body: BaseModel | None = None, query: Query | None = None
    ) -> httpx.Response:
        """A successful response. Raises FoundryError."""
        content = None if body is None else body.model_dump_json(exclude_unset=False)
        headers = {} if content is None else {"content-type": "application/json"}
        try:
            response = self.client.request(method, path, content=content, params=query, headers=headers)
        except httpx.TimeoutException as error:
            raise UpstreamTimeout(
                f"the control API at {self.client.base_url} was silent for too long"
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the control API at {self.client.base_url} does not answer ({error}): is `foundry up` running?"
            ) from error
        if response.is_success:
            return response
        raise error_from(response)

    def one(
        self,
        kind: type[Model],
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        query: Query | None = None,
    ) -> Model:
        """One object."""
        return kind.model_validate_json(self.call(method, path, body=body, query=query).content)

    def every(self, kind: type[Model], path: str) -> Iterator[Model]:
        """All objects of a list, page by page."""
        cursor: str | None = None
        while True:
            query: Query = {"limit": _PAGE} | ({"cursor": cursor} if cursor else {})
            found = Page[kind].model_validate_json(self.call("GET", path, query=query).content)
            yield from found.items
            cursor = found.next_cursor
            if cursor is None:
                return


class Keys:
    """`control.keys`"""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        scopes: Sequence[Scope] = ("inference",),
        allowed_routes: Sequence[str] | None = None,
        expires_at: datetime | None = None,
        guardrails: Sequence[str] = (),
    ) -> KeyCreated:
        """Make a key; its `key` is shown this once."""
        body = _checked(
            lambda: KeyCreate(
                name=name,
                scopes=tuple(scopes),
                allowed_routes=None if allowed_routes is None else tuple(allowed_routes),
                expires_at=expires_at,
                guardrails=tuple(guardrails),
            )
        )
        return self._transport.one(KeyCreated, "POST", "/v1/keys", body=body)

    def list(self) -> list[KeyRead]:
        """All keys, newest first, revoked ones included."""
        return list(self._transport.every(KeyRead, "/v1/keys"))

    def revoke(self, key_id: str) -> None:
        """Stop a key for good."""
        self._transport.call("DELETE", f"/v1/keys/{quote(key_id, safe='')}")


class Deployments:
    """`control.deployments`"""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def put(self, spec: DeploymentSpec) -> DeploymentRead:
        """Make or change a deployment; a failed one starts afresh."""
        return self._transport.one(DeploymentRead, "PUT", _deployment(spec.name), body=spec)

    def get(self, name: str) -> DeploymentRead:
        """One deployment with its status."""
        return self._transport.one(DeploymentRead, "GET", _deployment(name))

    def list(self) -> list[DeploymentRead]:
        """All deployments with their status, newest first."""
        return list(self._transport.every(DeploymentRead, "/v1/deployments"))

    def delete(self, name: str) -> DeploymentRead:
        """Delete a deployment; it stays listed as `deleting` until the cluster has let go of it."""
        return self._transport.one(DeploymentRead, "DELETE", _deployment(name))


class Routes:
    """`control.routes`"""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def put(
        self,
        name: str,
        targets: Sequence[TargetSpec],
        *,
        task: Task = Task.GENERATE,
        routing: Routing | None = None,
        guardrails: Sequence[str] = (),
        cache: CachePolicy | None = None,
    ) -> RouteRead:
        """Make or replace a route; targets in order of preference. Raises Conflict for one that `foundry.toml` declares."""
        body = _checked(
            lambda: RouteWrite(
                task=task,
                targets=tuple(targets),
                routing=routing or Routing(),
                guardrails=tuple(guardrails),
                cache=cache,
            )
        )
        return self.write(name, body)

    def write(self, name: str, route: RouteWrite) -> RouteRead:
        """The same, with the whole route in hand."""
        return self._transport.one(RouteRead, "PUT", _route(name), body=route)

    def get(self, name: str) -> RouteRead:
        """One route."""
        return self._transport.one(RouteRead, "GET", _route(name))

    def list(self) -> list[RouteRead]:
        """All routes, newest first."""
        return list(self._transport.every(RouteRead, "/v1/routes"))

    def delete(self, name: str) -> None:
        """Delete a route."""
        self._transport.call("DELETE", _route(name))


Spec = TypeVar("Spec", LimitEntry, GuardrailProfile, BlockRule)
Read = TypeVar("Read", bound=Declared)


class Named(Generic[Spec, Read]):
    """`control.limits`, `control.guardrails`, `control.blocks`: one contract under a name each."""

    def __init__(self, transport: _Transport, noun: str, read: type[Read]) -> None:
        self._transport = transport
        self._path = f"/v1/{noun}"
        self._read = read

    def put(self, spec: Spec) -> Read:
        """Make or replace. Raises Conflict for a name that `foundry.toml` declares."""
        return self._transport.one(self._read, "PUT", self._of(spec.name), body=spec)

    def get(self, name: str) -> Read:
        """One of them."""
        return self._transport.one(self._read, "GET", self._of(name))

    def list(self) -> list[Read]:
        """All, newest first."""
        return list(self._transport.every(self._read, self._path))

    def delete(self, name: str) -> None:
        """Delete."""
        self._transport.call("DELETE", self._of(name))

    def _of(self, name: str) -> str:
        return f"{self._path}/{quote(name, safe='')}"


class ControlClient:
    """A connection to the control API. Close it, or use it in a `with` block.

    url: e.g. "http://127.0.0.1:8100". key: a virtual key with the scope `admin`. transport: for tests.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_s: float = _TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
            transport=transport,
            trust_env=False,
        )
        self._transport = _Transport(self._client)
        self.keys = Keys(self._transport)
        self.deployments = Deployments(self._transport)
        self.routes = Routes(self._transport)
        self.limits = Named[LimitEntry, LimitRead](self._transport, "limits", LimitRead)
        self.guardrails = Named[GuardrailProfile, GuardrailRead](self._transport, "guardrails", GuardrailRead)
        self.blocks = Named[BlockRule, BlockRead](self._transport, "blocks", BlockRead)

    @classmethod
    def from_settings(cls, settings: Settings) -> ControlClient:
        """With the URL of the settings and the key of the secret file `admin.key`. Raises ConfigurationError."""
        return cls(settings.control.url, settings.secret("admin.key"))

    def usage(
        self,
        *,
        limit: int = 100,
        since: datetime | None = None,
        until: datetime | None = None,
        route: str | None = None,
        key_id: str | None = None,
        request_id: str | None = None,
    ) -> list[UsageRow]:
        """Usage records, newest first; `since` inclusive, `until` exclusive, both with a time zone."""
        named = {"route": route, "key_id": key_id, "request_id": request_id}
        moments = {"since": since, "until": until}
        query: dict[str, str | int] = {"limit": limit}
        query |= {name: value for name, value in named.items() if value is not None}
        query |= {name: value.isoformat() for name, value in moments.items() if value is not None}
        return list(
            Page[UsageRow]
            .model_validate_json(self._transport.call("GET", "/v1/usage", query=query).content)
            .items
        )

    def providers(self) -> list[ProviderRead]:
        """Vendors that routes can name."""
        return list(self._transport.every(ProviderRead, "/v1/providers"))

    def gateway_config(self) -> GatewayConfigRead:
        """What became of the configuration file: in force since when, and its problems with line and column."""
        return self._transport.one(GatewayConfigRead, "GET", "/v1/gateway/config")

    def gateways(self) -> list[GatewayRead]:
        """The gateway of each cluster."""
        return list(self._transport.every(GatewayRead, "/v1/gateways"))

    def clusters(self) -> list[ClusterRead]:
        """Ray clusters: whether they answer, and the snapshot published for them."""
        return list(self._transport.every(ClusterRead, "/v1/clusters"))

    def organizations(self) -> list[OrganizationRead]:
        """Organisations that the key may see."""
        return list(self._transport.every(OrganizationRead, "/v1/organizations"))

    def projects(self) -> list[ProjectRead]:
        """Projects that the key may see."""
        return list(self._transport.every(ProjectRead, "/v1/projects"))

    def ready(self) -> bool:
        """Whether the API serves and has published a snapshot; False when nothing answers."""
        try:
            self._transport.one(Health, "GET", "/readyz")
        except FoundryError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close at the end of the block."""
        self.close()


def _deployment(name: str) -> str:
    return f"/v1/deployments/{quote(name, safe='')}"


def _route(name: str) -> str:
    return f"/v1/routes/{quote(name, safe='/')}"


def _checked(make: Callable[[], Model]) -> Model:
    try:
        return make()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidParameter(f"{where}: {first['msg']}", param=where) from error
