"""Where a target is reached, and in which protocols: its URLs, headers and legs, worked out once per snapshot instead of
once per request.

What it does not know: HTTP itself (`transport.py`), which target a request takes (`routing/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from yarl import URL

from foundry.codecs import LEGS
from foundry.codecs.base import Codec, Leg, TargetFacts, UpstreamRequest
from foundry.errors import DeploymentNotReady, FoundryError, ProtocolNotServed
from foundry.providers.provider import Provider, provider
from foundry.providers.vendors import Vendor, Wire
from foundry.types.deployment import SERVING_PHASES
from foundry.types.money import Price
from foundry.types.snapshot import EngineTarget, ProviderTarget

DEFAULT_RETRY_AFTER_S = 5.0
"""Told to a caller of an engine that is not ready when nobody knows how long it will take."""
_ENGINE_WIRES: tuple[Wire, ...] = ("openai",)
_ENGINE_HEALTH, _MODELS = "/health", "/v1/models"
_PROBED_WIRES: tuple[Wire, ...] = ("openai", "anthropic")
"""Wires whose servers list their models at no cost. Targets of other wires come back by trials alone."""
_HEADERS = {
    "accept": "*/*",
    "accept-encoding": "identity",
    "user-agent": "foundry",
}
"""Sent with every request, all that aiohttp would add by itself included: leaving those out by its own option costs 4%."""


class Way(NamedTuple):
    """How a caller's protocol is spoken with a target."""

    leg: Leg
    wire: Wire


class Upstream:
    """One target, ready to be called."""

    __slots__ = (
        "_headers",
        "_provider",
        "_urls",
        "_ways",
        "_wires",
        "deployment",
        "error",
        "facts",
        "model",
        "price",
        "provider",
        "root",
        "target",
        "target_id",
    )

    def __init__(
        self,
        target: EngineTarget | ProviderTarget,
        *,
        engine_token: str,
        vendors: Mapping[str, Vendor] | None = None,
    ) -> None:
        self.target = target
        self.target_id = target.target_id
        self.model = target.model
        self.price: Price | None = target.price
        self.deployment = self.provider = self.root = ""
        self.error: FoundryError | None = None
        """Why it cannot be called: DeploymentNotReady with the engine's phase, or ConfigurationError naming what is missing."""
        self._provider: Provider | None = None
        self._wires: tuple[Wire, ...] = ()
        self._headers: Mapping[str, str] = {}
        self._urls: dict[tuple[Wire, str], URL] = {}
        self._ways: dict[str, Way] = {}
        self.facts = TargetFacts(target.target_id, target.model)
        if isinstance(target, EngineTarget):
            self._own(target, engine_token)
        else:
            self._vendors(target, vendors)

    def _own(self, target: EngineTarget, engine_token: str) -> None:
        self.deployment, self.root, self._wires = target.deployment, target.base_url, _ENGINE_WIRES
        self._headers = {**_HEADERS, "authorization": f"Bearer {engine_token}"}
        # vLLM and SGLang report usage in every chunk when asked
        self.facts = TargetFacts(target.target_id, target.model, running_usage=True)
        self.error = _not_ready(target)

    def _vendors(self, target: ProviderTarget, vendors: Mapping[str, Vendor] | None) -> None:
        self.provider = target.provider
        try:
            found = self._provider = provider(target.provider, vendors, base_url=target.base_url)
            self._wires = found.wires
            options = found.options_for(target.model)
            running = options.get("running_usage") == "true"
            self.facts = TargetFacts(target.target_id, target.model, running_usage=running, options=options)
            self.root = found.base_url
            found.require_secret()
        except FoundryError as error:
            self.error = error  # the snapshot stays usable: only calls to this target fail, and say why

    def way(self, codec: Codec) -> Way:
        """How to speak the caller's protocol with this target. Raises ProtocolNotServed."""
        way = self._ways.get(codec.name)
        if way is None:
            way = self._ways[codec.name] = self._find_way(codec)
        return way

    def _find_way(self, codec: Codec) -> Way:
        wires = self._provider.wires_for(codec.name) if self._provider else self._wires
        for wire in wires:
            leg = LEGS.get((codec.name, wire))
            if leg is not None:
                return Way(leg, wire)
        raise ProtocolNotServed(
            f"{self.target_id} does not serve {codec.path}: ask another model", param="model"
        )

    def url(self, wire: Wire, path: str) -> URL:
        """The target's URL for a path of a wire."""
        url = self._urls.get((wire, path))
        if url is None:
            text = self._provider.url(wire, path, model=self.model) if self._provider else self.root + path
            url = self._urls[wire, path] = URL(text, encoded=True)
        return url

    async def refresh(self) -> None:
        """Get credentials that have run out; only AWS's ever do."""
        if self._provider is not None and not self._provider.fresh:
            await self._provider.refresh()

    def headers(self, way: Way, url: URL, request: UpstreamRequest, request_id: str) -> Mapping[str, str]:
        """All headers of one request to this target."""
        return {
            **(
                self._headers if self._provider is None else self._vendor_headers(way.wire, url, request.body)
            ),
            **request.headers,
            "content-type": request.content_type,
            "x-request-id": request_id,
        }

    def _vendor_headers(self, wire: Wire, url: URL, body: bytes) -> Mapping[str, str]:
        assert self._provider is not None  # noqa: S101  the caller has looked
        return {**_HEADERS, **self._provider.headers_for(str(url), body, wire=wire)}

    def probe(self) -> tuple[URL, Mapping[str, str]] | None:
        """URL and headers of a GET that costs nothing and tells whether the target is alive; None where there is none."""
        if self._provider is None:
            return self.url(_ENGINE_WIRES[0], _ENGINE_HEALTH), self._headers
        wire: Wire | None = next((one for one in _PROBED_WIRES if one in self._wires), None)
        if wire is None:
            return None
        url = self.url(wire, _MODELS)
        return url, self._vendor_headers(wire, url, b"")


def _not_ready(target: EngineTarget) -> DeploymentNotReady | None:
    if target.phase in SERVING_PHASES:
        return None
    detail = f": {target.phase_detail}" if target.phase_detail else ""
    return DeploymentNotReady(
        f"deployment '{target.deployment}' is {target.phase.value}{detail}",
        retry_after_s=target.eta_s or DEFAULT_RETRY_AFTER_S,
    )
