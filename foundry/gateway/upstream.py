"""Where a target is reached, and in which protocols: its URLs, headers and legs, worked out once per snapshot instead of
once per request.

What it does not know: HTTP itself (`transport.py`), which target a request takes (`routing/`).
"""

from __future__ import annotations

from collections.abc import Mapping

from yarl import URL

from foundry.codecs import LEGS
from foundry.codecs.base import Codec, Leg, TargetFacts, UpstreamRequest
from foundry.errors import DeploymentNotReady, FoundryError, ProtocolNotServed
from foundry.providers.vendors import vendor
from foundry.types.deployment import SERVING_PHASES
from foundry.types.money import Price
from foundry.types.snapshot import EngineTarget, ProviderTarget

DEFAULT_RETRY_AFTER_S = 5.0
"""Told to a caller of an engine that is not ready when nobody knows how long it will take."""
_ENGINE_WIRES = ("openai",)
_HEADERS = {
    "accept": "*/*",
    "accept-encoding": "identity",
    "user-agent": "foundry",
}
"""Sent with every request, all that aiohttp would add by itself included: leaving those out by its own option costs 4%."""


class Upstream:
    """One target, ready to be called."""

    __slots__ = (
        "_headers",
        "_legs",
        "_urls",
        "base_url",
        "deployment",
        "error",
        "facts",
        "model",
        "price",
        "provider",
        "target",
        "target_id",
        "wires",
    )

    def __init__(self, target: EngineTarget | ProviderTarget, *, engine_token: str) -> None:
        self.target = target
        self.target_id = target.target_id
        self.model = target.model
        self.price: Price | None = target.price
        self.base_url = target.base_url or ""
        self.deployment = self.provider = ""
        self.wires: tuple[str, ...] = _ENGINE_WIRES
        self._headers: dict[str, str] = dict(_HEADERS)
        self.error: FoundryError | None = None
        """Why it cannot be called: DeploymentNotReady with the engine's phase, or ConfigurationError naming what is missing."""
        self._urls: dict[str, URL] = {}
        self._legs: dict[str, Leg] = {}
        running_usage = isinstance(
            target, EngineTarget
        )  # vLLM and SGLang report usage in every chunk when asked
        self.facts = TargetFacts(target.target_id, target.model, running_usage=running_usage)
        if isinstance(target, EngineTarget):
            self.deployment = target.deployment
            self._headers["authorization"] = f"Bearer {engine_token}"
            self.error = _not_ready(target)
        else:
            self.provider = target.provider
            self._authenticate(target)

    def _authenticate(self, target: ProviderTarget) -> None:
        try:
            row = vendor(target.provider)
            self.base_url = target.base_url or row.base_url
            self._headers["authorization"] = f"Bearer {row.secret()}"
        except FoundryError as error:
            self.error = error  # the snapshot stays usable: only calls to this target fail, and say why

    def leg(self, codec: Codec) -> Leg:
        """How to speak the caller's protocol with this target. Raises ProtocolNotServed."""
        leg = self._legs.get(codec.name)
        if leg is None:
            found = (LEGS[codec.name, wire] for wire in self.wires if (codec.name, wire) in LEGS)
            leg = next(found, None)
            if leg is None:
                raise ProtocolNotServed(
                    f"{self.target_id} does not serve {codec.path}: ask another model", param="model"
                )
            self._legs[codec.name] = leg
        return leg

    def url(self, path: str) -> URL:
        """The target's URL for a path."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self.base_url + path, encoded=True)
        return url

    def headers(self, request: UpstreamRequest, request_id: str) -> Mapping[str, str]:
        """All headers of one request to this target."""
        return {
            **self._headers,
            **request.headers,
            "content-type": request.content_type,
            "x-request-id": request_id,
        }

    def probe_headers(self) -> Mapping[str, str]:
        """Headers of a GET that asks whether the target is alive."""
        return self._headers


def _not_ready(target: EngineTarget) -> DeploymentNotReady | None:
    if target.phase in SERVING_PHASES:
        return None
    detail = f": {target.phase_detail}" if target.phase_detail else ""
    return DeploymentNotReady(
        f"deployment '{target.deployment}' is {target.phase.value}{detail}",
        retry_after_s=target.eta_s or DEFAULT_RETRY_AFTER_S,
    )
