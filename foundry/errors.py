"""Every error that Foundry raises on purpose, in one tree.

What it is: the exception tree that all parts share. An error fixes its `code`, HTTP `status` and whether a
retry can help; the edge (gateway, control API, CLI) renders it in its own dialect (OpenAI, Anthropic,
problem+json, a line of text). What it does not know: HTTP frameworks, protocols, logging.

    FoundryError
    ├── InvalidRequest            400  the caller sent something that cannot be served as it stands
    │   ├── MalformedBody         400  not JSON, not an object, cut off half-way
    │   ├── InvalidParameter      400  one named parameter is wrong
    │   │   └── UnsupportedParameter  400  no target of the route has it: names the parameter and the target
    │   ├── ProtocolNotServed     400  the route's targets do not speak this protocol
    │   ├── GuardrailBlocked      400  a guard of the route or key refused what was said
    │   ├── MethodNotAllowed      405
    │   ├── BodyTooLarge          413  names the limit
    │   └── UnsupportedMedia      415
    ├── AuthenticationFailed      401  missing, malformed, unknown, expired or revoked key
    ├── PermissionDenied          403  a known caller may not do this
    │   └── CallerBlocked         403  a blocking rule by address, country or user agent
    ├── NotFound                  404  does not exist, or the caller may not see it
    │   ├── ModelNotFound         404
    │   └── PreviousResponseNotFound  404
    ├── Conflict                  409  the state changed under the caller
    ├── LimitExceeded             429  names the limit, what is left and when it resets
    │   └── BudgetExhausted       402  the same for money
    ├── UpstreamError             502  an engine or a vendor failed us
    │   ├── UpstreamRefused       ...  it answered with an error: its own status and words are passed on
    │   ├── UpstreamUnreachable   502  no connection, or it died before it answered
    │   ├── UpstreamBroke         502  it died while it answered
    │   └── UpstreamTimeout       504
    ├── Unavailable               503  try again after `retry_after_s`
    │   ├── DeploymentNotReady    503  an engine that is still queued, pulling, loading or warming: names the phase
    │   ├── SnapshotMissing       503  the gateway has never seen a configuration
    │   ├── QueueFull             503  every target is at its cap and so is the queue, or the wait was too long
    │   ├── NoTargetAvailable     503  every target of the route is out (circuit breaker)
    │   ├── GuardrailUnavailable  503  a guard that must not be passed by failed or ran out of time
    │   ├── LimitsUnavailable     503  the ledger of limits does not answer and the replica's share is used up
    │   ├── ObjectStoreUnavailable 503 the store of files, batches and responses does not answer
    │   ├── SpoolFull             503  usage cannot be written to disk, so nothing is served unmetered
    │   └── MetricsUnavailable    503  the metrics store does not answer
    ├── MetricsRefused            500  the metrics store refused a statement: its own code and words
    ├── SnapshotRejected          500  signature, key or content is wrong (`gateway/signing.py`)
    ├── ConfigurationError        500  a setting, file or secret is missing or wrong: names it and what to set
    ├── PriceUnknown              500  no price for a target: never silently zero
    ├── ModelSourceError          422  a model cannot be fetched, converted or trusted
    ├── DeploymentSpecError       422  a deployment that no engine can run as written
    └── ProcessError              500  a child process of the local platform did not start or died
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class FoundryError(Exception):
    """Base of every deliberate error.

    message: one sentence that names the offending value and the next step. param: the request parameter or
    setting at fault. retry_after_s: seconds after which a retry can succeed, for errors that say so.
    """

    code: ClassVar[str] = "internal_error"
    """Stable, machine-readable, snake_case; part of the public contract."""
    status: int = 500
    """HTTP status that the edge answers with."""
    retryable: ClassVar[bool] = False
    """True when the same request can succeed later without a change."""

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequest(FoundryError):
    """The caller sent something that cannot be served as it stands."""

    code = "invalid_request"
    status = 400


class MalformedBody(InvalidRequest):
    """The body is not a JSON object, or was cut off half-way."""

    code = "malformed_body"


class InvalidParameter(InvalidRequest):
    """One named parameter is missing or wrong."""

    code = "invalid_parameter"


class UnsupportedParameter(InvalidParameter):
    """The target has nothing like this parameter: the message names both."""

    code = "unsupported_parameter"


class ProtocolNotServed(InvalidRequest):
    """The route's targets do not speak the protocol that was used."""

    code = "protocol_not_served"


class GuardrailBlocked(InvalidRequest):
    """A guard refused what the caller or the model said."""

    code = "guardrail_blocked"


class MethodNotAllowed(InvalidRequest):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class BodyTooLarge(InvalidRequest):
    """The body exceeds the gateway's limit, which the message names in bytes."""

    code = "body_too_large"
    status = 413


class UnsupportedMedia(InvalidRequest):
    """The content type is not one the endpoint reads."""

    code = "unsupported_media_type"
    status = 415


class AuthenticationFailed(FoundryError):
    """No key, or one that is malformed, unknown, expired or revoked."""

    code = "invalid_api_key"
    status = 401


class PermissionDenied(FoundryError):
    """A known caller may not do this."""

    code = "permission_denied"
    status = 403


class CallerBlocked(PermissionDenied):
    """A blocking rule by address, country or user agent matched."""

    code = "caller_blocked"


class NotFound(FoundryError):
    """It does not exist, or the caller may not see it."""

    code = "not_found"
    status = 404


class ModelNotFound(NotFound):
    """No route with that model name is visible to the key."""

    code = "model_not_found"


class PreviousResponseNotFound(NotFound):
    """A response that a request goes on from is not stored, or the caller may not see it."""

    code = "previous_response_not_found"


class Conflict(FoundryError):
    """The state changed under the caller: read again and retry."""

    code = "conflict"
    status = 409


class LimitExceeded(FoundryError):
    """A rate, budget or quota limit was reached; `headers` tell the caller which, what is left and when it resets."""

    code = "limit_exceeded"
    status = 429
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.headers = headers


class BudgetExhausted(LimitExceeded):
    """A budget in money is used up."""

    code = "budget_exhausted"
    status = 402


class UpstreamError(FoundryError):
    """An engine or a vendor failed us."""

    code = "upstream_error"
    status = 502
    retryable = True


class UpstreamRefused(UpstreamError):
    """The upstream answered with an error of its own; `status` is what the caller is told
    (`gateway/refusals.py`)."""

    code = "upstream_refused"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        upstream_status: int | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.status = status
        self.upstream_status = status if upstream_status is None else upstream_status
        """What the upstream itself answered with: what retries and health go by."""


class UpstreamUnreachable(UpstreamError):
    """No connection to the upstream, or it died before its answer began."""

    code = "upstream_unreachable"


class UpstreamBroke(UpstreamError):
    """The upstream died while it answered."""

    code = "upstream_broke"


class UpstreamTimeout(UpstreamError):
    """The upstream was silent for longer than the route allows."""

    code = "upstream_timeout"
    status = 504


class Unavailable(FoundryError):
    """Not now; `retry_after_s` says when."""

    code = "unavailable"
    status = 503
    retryable = True


class DeploymentNotReady(Unavailable):
    """The engine is still queued, pulling, loading or warming; the message names the phase."""

    code = "deployment_not_ready"


class SnapshotMissing(Unavailable):
    """The gateway has never received a configuration snapshot and has none on disk."""

    code = "snapshot_missing"


class QueueFull(Unavailable):
    """Every target of the route is at its cap, and so is the queue, or the wait was too long."""

    code = "queue_full"


class NoTargetAvailable(Unavailable):
    """Every target of the route is out: their circuit breakers are open."""

    code = "no_target_available"


class GuardrailUnavailable(Unavailable):
    """A guard failed or ran out of time, and its profile says that nothing passes without it."""

    code = "guardrail_unavailable"


class LimitsUnavailable(Unavailable):
    """The ledger of limits does not answer, and this replica's share is used up."""

    code = "limits_unavailable"


class ObjectStoreUnavailable(Unavailable):
    """The store of files, batches and responses does not answer, or refuses us."""

    code = "object_store_unavailable"


class SpoolFull(Unavailable):
    """The usage spool's bound or the disk is reached: nothing is served that could not be metered."""

    code = "spool_full"


class MetricsUnavailable(Unavailable):
    """The metrics store does not answer, or not in time."""

    code = "metrics_unavailable"


class MetricsRefused(FoundryError):
    """The metrics store refused a statement; `store_code` is ClickHouse's own error number, None when it gave none."""

    code = "metrics_refused"

    def __init__(self, message: str, *, store_code: int | None = None) -> None:
        super().__init__(message)
        self.store_code = store_code


class ConfigurationError(FoundryError):
    """A setting, file or secret is missing or wrong; the message names it and what to set."""

    code = "configuration_error"


class PriceUnknown(FoundryError):
    """No price is known for a target: a cost is never silently zero."""

    code = "price_unknown"


class ModelSourceError(FoundryError):
    """A model cannot be fetched, converted or trusted."""

    code = "model_source_error"
    status = 422


class DeploymentSpecError(FoundryError):
    """A deployment that no engine can run as written."""

    code = "deployment_spec_error"
    status = 422


class ProcessError(FoundryError):
    """A child process of the local platform did not start, or died; the message carries its last words."""

    code = "process_error"
