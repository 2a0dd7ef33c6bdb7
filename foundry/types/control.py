"""What the control API says and hears, shared by its endpoints and by `foundry.client`.

Requests refuse unknown fields; answers ignore them, so that an older client can talk to a newer server.
What it does not know: HTTP, databases, who may see what.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from foundry.types.cache import CachePolicy
from foundry.types.deployment import AdapterName, DeploymentName, DeploymentSpec, DeploymentStatus, Task
from foundry.types.guardrails import BlockRule, GuardrailProfile
from foundry.types.limits import LimitEntry
from foundry.types.money import Price
from foundry.types.routing import Routing

Item = TypeVar("Item")


def _no_dot_segments(name: str) -> str:
    if any(segment in {"", ".", ".."} for segment in name.split("/")):
        raise ValueError("a route name must not contain empty, '.' or '..' segments")
    return name


RouteName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", max_length=200),
    AfterValidator(_no_dot_segments),
]
"""A public model name, e.g. "smollm2" or "meta-llama/Llama-3.1-8B"."""
NounName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
"""Name of a limit, a guardrail profile or a blocking rule."""
Source = Literal["api", "file"]
"""Who owns a name: `api`, made by a call; `file`, declared in `foundry.toml`, which calls cannot change."""
Scope = Literal["inference", "admin"]
"""`inference`: may call models through the gateway. `admin`: may use the control API."""


class Request(BaseModel):
    """Base of request bodies: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(BaseModel):
    """Base of answers: frozen, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Page(Answer, Generic[Item]):
    """One page of a list, newest first."""

    items: tuple[Item, ...]
    next_cursor: str | None = None
    """Pass it as `cursor` to get the next page; None: this is the last one."""


class FieldError(Answer):
    """One field that failed validation."""

    location: str
    """Dotted path, e.g. "body.targets.0.provider"."""
    message: str


class Problem(Answer):
    """RFC 9457 problem details, the form of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    """Stable and machine-readable: `code` of the FoundryError."""
    request_id: str
    param: str | None = None
    errors: tuple[FieldError, ...] = ()


class OrganizationRead(Answer):
    """An organisation: the owner of projects."""

    id: str
    name: str
    created_at: datetime


class ProjectRead(Answer):
    """A project: what keys, deployments and routes belong to."""

    id: str
    organization_id: str
    name: str
    created_at: datetime


class KeyCreate(Request):
    """A virtual key to make."""

    name: str = Field(min_length=1, max_length=200)
    scopes: tuple[Scope, ...] = Field(default=("inference",), min_length=1)
    allowed_routes: tuple[RouteName, ...] | None = None
    """Route names it may call; None: all of its project's."""
    expires_at: AwareDatetime | None = None
    """When it stops working; must lie in the future. None: never."""
    guardrails: tuple[NounName, ...] = Field(default=(), max_length=32)
    """Profiles that hold for all its requests, besides the route's own."""


class KeyRead(Answer):
    """A virtual key without its secret."""

    id: str
    organization_id: str
    project_id: str
    name: str
    prefix: str
    """The first characters of the key, to recognise it by."""
    scopes: tuple[str, ...]
    allowed_routes: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    guardrails: tuple[str, ...] = ()


class KeyCreated(KeyRead):
    """The only answer that ever carries the key in clear."""

    key: str


class DeploymentRead(Answer):
    """A deployment: what is wanted, and what is."""

    id: str
    project_id: str
    name: DeploymentName
    spec: DeploymentSpec
    generation: int
    """Counts changes of `spec`."""
    observed_generation: int
    """The generation that `status` is about; behind `generation` until the cluster has taken the change."""
    status: DeploymentStatus
    created_at: datetime
    updated_at: datetime


class TargetShare(Request):
    """What every kind of target may say about its share of the route's requests."""

    weight: float = Field(default=1.0, ge=0, le=1_000_000)
    """Share among the targets, for the policies that share."""
    max_concurrency: int | None = Field(default=None, ge=1)
    """Most requests in flight from one replica of the gateway; None: no cap."""
    canary_percent: float | None = Field(default=None, ge=0, le=100)
    """This share of requests tries this target first, whatever the policy says; it takes no others while primaries are up."""
    shadow_percent: float | None = Field(default=None, ge=0, le=100)
    """This share of requests is also sent here; the answer is measured, recorded as `shadow` and thrown away."""


class EngineTargetSpec(TargetShare):
    """An own deployment behind a route."""

    kind: Literal["engine"] = "engine"
    deployment: DeploymentName
    adapter: AdapterName | None = None
    """One of the deployment's LoRA adapters; None: the model itself."""

    @property
    def target_id(self) -> str:
        """As usage records and headers name it."""
        return f"engine/{self.deployment}" + (f"/{self.adapter}" if self.adapter else "")


class ProviderTargetSpec(TargetShare):
    """A vendor's model behind a route."""

    kind: Literal["provider"] = "provider"
    provider: str = Field(min_length=1, max_length=100)
    """Row of `providers/vendors.toml`, or one of the operator's own (`[providers.NAME]` of `foundry.toml`)."""
    model: str = Field(min_length=1, max_length=300)
    """The vendor's name of the model."""
    base_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+[^/\s]$", max_length=500)
    """Overrides the row's URL (a proxy, a private endpoint)."""
    price: Price | None = None
    """What its tokens cost; None: the operator's own price list, then the shipped one."""


TargetSpec = Annotated[EngineTargetSpec | ProviderTargetSpec, Field(discriminator="kind")]


class RouteWrite(Request):
    """A route to make or to replace."""

    task: Task = Task.GENERATE
    targets: tuple[TargetSpec, ...] = Field(min_length=1, max_length=32)
    """In order of preference."""
    routing: Routing = Routing()
    guardrails: tuple[NounName, ...] = Field(default=(), max_length=32)
    """Names of profiles."""
    cache: CachePolicy | None = None


class RouteRead(Answer):
    """A public model name and its targets."""

    id: str
    project_id: str
    name: str
    task: Task
    targets: tuple[TargetSpec, ...]
    routing: Routing = Routing()
    guardrails: tuple[str, ...] = ()
    cache: CachePolicy | None = None
    source: Source = "api"
    created_at: datetime
    updated_at: datetime


class Declared(Answer):
    """What every limit, guardrail profile and blocking rule has besides its `spec`."""

    id: str
    project_id: str
    name: str
    source: Source
    created_at: datetime
    updated_at: datetime


class LimitRead(Declared):
    """A limit or a budget."""

    spec: LimitEntry


class GuardrailRead(Declared):
    """A guardrail profile."""

    spec: GuardrailProfile


class BlockRead(Declared):
    """A blocking rule."""

    spec: BlockRule


class ConfigProblem(Answer):
    """One finding about `foundry.toml`."""

    severity: Literal["error", "warning"]
    path: str
    """Dotted, as TOML writes it, e.g. `routes."a/b".targets[0].provider`."""
    line: int
    column: int
    """Both count from 1, the column in characters."""
    value: str = ""
    """The offending value; empty when there is none."""
    message: str


class GatewayConfigRead(Answer):
    """What became of the gateway's configuration file."""

    path: str
    status: Literal["absent", "applied", "rejected"]
    """absent: there is no file and none was applied. rejected: the last good one (of `applied_at`) is still in force."""
    applied_at: datetime | None = None
    """When the configuration in force was applied."""
    content_hash: str = ""
    """SHA-256 of the file that is in force."""
    checked_at: datetime | None = None
    """When the file was last seen to differ."""
    problems: tuple[ConfigProblem, ...] = ()
    """Of the file as it is now: errors of a rejected one, warnings of an applied one."""


class ProviderRead(Answer):
    """A vendor that routes can name."""

    name: str
    title: str
    base_url: str
    secret_env: str
    """Environment variable that holds its API key."""
    secret_set: bool
    """Whether that variable is set where the control API runs."""
    source: Literal["shipped", "file"] = "shipped"
    """file: declared or changed in `foundry.toml`."""


class GatewayRead(Answer):
    """The gateway application of one cluster, as Ray Serve reports it."""

    cluster: str
    name: str
    status: Literal["absent", "starting", "running", "degraded", "failed", "deleting"]
    ready_replicas: int
    target_replicas: int
    message: str
    updated_at: datetime


class ClusterRead(Answer):
    """A Ray cluster, as the reconciler last saw it."""

    name: str
    reachable: bool
    message: str
    """Why it is not reachable or refuses the configuration, and what to look at."""
    snapshot_version: int | None
    """Version of the gateway configuration that is published for it."""
    updated_at: datetime


class Health(Answer):
    """Whether the process can serve."""

    status: Literal["ok"] = "ok"
