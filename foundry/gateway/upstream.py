"""Where a target is reached: its URLs and headers, worked out once per snapshot instead of once per request.

What it does not know: HTTP itself (`transport.py`), which target a request takes (`lifecycle.py`).
"""

from __future__ import annotations

from yarl import URL

from foundry.errors import DeploymentNotReady, FoundryError
from foundry.providers.vendors import vendor
from foundry.types.deployment import SERVING_PHASES
from foundry.types.money import Price
from foundry.types.snapshot import EngineTarget, ProviderTarget

DEFAULT_RETRY_AFTER_S = 5.0
"""Told to a caller of an engine that is not ready when nobody knows how long it will take."""
_HEADERS = {
    "content-type": "application/json",
    "accept": "*/*",
    "accept-encoding": "identity",
    "user-agent": "foundry",
}
"""Sent with every request, all that aiohttp would add by itself included: leaving those out by its own option costs 4%."""


class Upstream:
    """One target, ready to be called."""

    __slots__ = (
        "_error",
        "_urls",
        "base_url",
        "deployment",
        "headers",
        "model",
        "price",
        "provider",
        "running_usage",
        "target_id",
    )

    def __init__(self, target: EngineTarget | ProviderTarget, *, engine_token: str) -> None:
        self.target_id = target.target_id
        self.model = target.model
        self.price: Price | None = target.price
        self.headers: dict[str, str] = dict(_HEADERS)
        self.base_url = target.base_url or ""
        self.deployment = self.provider = ""
        self.running_usage = False
        self._error: FoundryError | None = None
        self._urls: dict[str, URL] = {}
        if isinstance(target, EngineTarget):
            self.deployment = target.deployment
            self.running_usage = True  # vLLM and SGLang report usage in every chunk when asked
            self.headers["authorization"] = f"Bearer {engine_token}"
            self._error = _not_ready(target)
        else:
            self.provider = target.provider
            self._authenticate(target)

    def _authenticate(self, target: ProviderTarget) -> None:
        try:
            row = vendor(target.provider)
            self.base_url = target.base_url or row.base_url
            self.headers["authorization"] = f"Bearer {row.secret()}"
        except FoundryError as error:
            self._error = error  # the snapshot stays usable: only calls to this target fail, and say why

    def require_ready(self) -> None:
        """Raises DeploymentNotReady with the engine's phase, or ConfigurationError naming the missing
        secret."""
        if self._error is not None:
            raise self._error.with_traceback(None)

    def url(self, path: str) -> URL:
        """The target's URL for a public path."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self.base_url + path, encoded=True)
        return url


def _not_ready(target: EngineTarget) -> DeploymentNotReady | None:
    if target.phase in SERVING_PHASES:
        return None
    detail = f": {target.phase_detail}" if target.phase_detail else ""
    return DeploymentNotReady(
        f"deployment '{target.deployment}' is {target.phase.value}{detail}",
        retry_after_s=target.eta_s or DEFAULT_RETRY_AFTER_S,
    )
