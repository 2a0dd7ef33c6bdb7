"""Ray Serve's REST API on the dashboard, as far as the reconciler needs it.

Ray accepts its token in `Authorization` and, for proxies that use that header themselves, in `X-Ray-Authorization`
(ray/_private/authentication/http_token_authentication.py); the plain header is used here.
What it does not know: what the applications are.
"""

from __future__ import annotations

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_api.reconcile.serve_config import Config
from foundry.errors import UpstreamRefused, UpstreamTimeout, UpstreamUnreachable

_APPLICATIONS = "/api/serve/applications/"
_PUT_TIMEOUT_S = 90.0
"""A first submission starts Serve itself."""
_GET_TIMEOUT_S = 15.0
_LOG_TIMEOUT_S = 3.0
_MESSAGE_CHARS = 500
_LOG_LINE_CHARS = 300


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ReplicaDetails(_Part):
    """One replica. `state`: STARTING, UPDATING, RECOVERING, RUNNING, STOPPING, STOPPED, PENDING_MIGRATION."""

    replica_id: str = ""
    state: str
    actor_id: str | None = None
    node_id: str | None = None
    pid: int | None = None
    start_time_s: float = 0


class ServeDeployment(_Part):
    """One Serve deployment of an application (an engine, its ingress, a gateway replica set)."""

    name: str
    status: str
    message: str = ""
    target_num_replicas: int = 1
    replicas: tuple[ReplicaDetails, ...] = ()
    recent_dead_replicas: tuple[ReplicaDetails, ...] = ()

    @property
    def running(self) -> int:
        """Replicas that answer."""
        return sum(replica.state == "RUNNING" for replica in self.replicas)


class ServeApplication(_Part):
    """One application. `status`: NOT_STARTED, DEPLOYING, DEPLOY_FAILED, RUNNING, UNHEALTHY, DELETING."""

    name: str
    status: str
    message: str = ""
    last_deployed_time_s: float = 0
    deployments: dict[str, ServeDeployment] = Field(default_factory=dict)


class ServeDetails(_Part):
    """What `GET /api/serve/applications/` says."""

    applications: dict[str, ServeApplication] = Field(default_factory=dict)


class ServeApi:
    """Client of one cluster's dashboard."""

    def __init__(self, dashboard_url: str, token: str) -> None:
        self.url = dashboard_url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_GET_TIMEOUT_S,
            trust_env=False,
        )

    async def details(self) -> ServeDetails:
        """State of all applications; none when Serve does not run. Raises UpstreamError."""
        response = await self._call("GET", _APPLICATIONS)
        try:
            return ServeDetails.model_validate_json(response.content)
        except ValidationError as error:
            raise UpstreamRefused(
                f"the dashboard at {self.url} answered something else than Serve's details: {error}",
                status=502,
            ) from error

    async def submit(self, config: Config) -> None:
        """Make this the configuration of the whole cluster. Raises UpstreamError."""
        await self._call("PUT", _APPLICATIONS, body=config, timeout_s=_PUT_TIMEOUT_S)

    async def last_log_line(self, actor_id: str) -> str:
        """Last line that an actor wrote to stderr; empty when the cluster cannot tell."""
        query = {
            "actor_id": actor_id,
            "suffix": "err",
            "lines": "5",
            "timeout": "2",
            "filter_ansi_code": "true",
        }
        try:
            response = await self._client.get("/api/v0/logs/file", params=query, timeout=_LOG_TIMEOUT_S)
        except httpx.HTTPError:
            return ""
        if not response.is_success:
            return ""
        lines = [line.strip() for line in response.text.splitlines() if line.strip()]
        return lines[-1][:_LOG_LINE_CHARS] if lines else ""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _call(
        self, method: str, path: str, *, body: Config | None = None, timeout_s: float = _GET_TIMEOUT_S
    ) -> httpx.Response:
        try:
            response = await self._client.request(method, path, json=body, timeout=timeout_s)
        except httpx.TimeoutException as error:
            raise UpstreamTimeout(f"Ray's dashboard at {self.url} was silent for {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise UpstreamUnreachable(f"Ray's dashboard at {self.url} does not answer: {error}") from error
        if response.is_success:
            return response
        words = " ".join(response.text.split())[:_MESSAGE_CHARS]
        hint = "; check the secret ray.token" if response.status_code in {401, 403} else ""
        raise UpstreamRefused(
            f"Ray's dashboard answered {response.status_code}{hint}: {words}", status=response.status_code
        )
