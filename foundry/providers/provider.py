"""A provider made callable: its URLs, its authentication and the facts that legs want, worked out once per snapshot.

    upstream = provider("deepseek")
    url = upstream.url("anthropic", "/v1/messages", model="deepseek-chat")
    if not upstream.fresh:
        await upstream.refresh()          # only AWS ever waits here
    headers = upstream.headers_for(url, body, wire="anthropic")

What it does not know: HTTP, which wire a caller's protocol is joined to (`LEGS`), prices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from foundry.errors import ConfigurationError
from foundry.providers.families import family
from foundry.providers.vendors import Auth, Surface, Vendor, Wire, vendor

if TYPE_CHECKING:
    from foundry.providers.aws import AwsSigner

_BEARER_NAMES: dict[Auth, str] = {
    "x-api-key": "x-api-key",
    "api-key": "api-key",
    "x-goog-api-key": "x-goog-api-key",
}
_OWN_WIRES = {
    "messages": "anthropic",
    "count_tokens": "anthropic",
    "responses": "openai-responses",
    "rerank": "cohere",
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_AWS_HOST = re.compile(r"^https://[\w-]+\.([a-z]{2}(?:-[a-z]+)+-\d)\.(?:amazonaws|api\.aws)")
_NOTHING: dict[str, str] = {}


class Provider:
    """One row of the table, ready to be called. `base_url` overrides the row's (a proxy, a private endpoint)."""

    def __init__(self, name: str, row: Vendor, *, base_url: str | None = None) -> None:
        self.name = name
        self.title = row.title
        self.wires: tuple[Wire, ...] = row.wires
        self.options: Mapping[str, str] = row.options
        self._row = row
        self._override = base_url
        self._error: ConfigurationError | None = None
        self._secret: str | None = None
        try:
            self._secret = row.secret()
        except ConfigurationError as error:
            self._error = error
        self._headers = {wire: self._static_headers(wire) for wire in row.wires}
        self._signer = self._make_signer()

    @property
    def base_url(self) -> str:
        """Root of the first wire's paths. Raises ConfigurationError when neither the row nor the target gives one."""
        return self._base(_surface(self._row, self.wires[0]))

    @property
    def fresh(self) -> bool:
        """Whether `headers_for` needs nothing that must be waited for; always true but for AWS."""
        return self._signer is None or self._signer.fresh

    async def refresh(self) -> None:
        """Get what `headers_for` needs."""
        if self._signer is not None:
            await self._signer.refresh()

    def require_secret(self) -> None:
        """Raises ConfigurationError that names the variable to set when the API key is missing."""
        if self._error is not None:
            raise self._error.with_traceback(None)

    def headers_for(self, url: str, body: bytes, *, wire: Wire | None = None) -> Mapping[str, str]:
        """The headers that authenticate this request, names in lower case; not to be changed. Raises ConfigurationError."""
        if self._signer is not None:
            return self._signer.headers(url, body)
        self.require_secret()
        return self._headers[wire or self.wires[0]]

    def url(self, wire: Wire, path: str, *, model: str) -> str:
        """Where a leg's `UpstreamRequest.path` lies, percent-encoded. Raises ConfigurationError naming a missing option."""
        surface = _surface(self._row, wire)
        if path.startswith("/v1/") and wire in ("openai", "openai-responses", "anthropic"):
            prefix = self._row.prefix if surface.prefix is None else surface.prefix
            path = self._filled(prefix, model=quote(model, safe="")) + path[3:]
        query = {name: self._filled(value) for name, value in self._row.query.items()}
        separator = "&" if "?" in path else "?"
        return self._base(surface) + path + (separator + urlencode(query) if query else "")

    def wires_for(self, protocol: str) -> tuple[Wire, ...]:
        """The wires that can serve a caller's protocol (`Codec.name`), in the order to try: its own first, where bytes pass through,
        then as the row has them."""
        own = _OWN_WIRES.get(protocol, "openai")
        able: list[Wire] = [wire for wire in self.wires if self._serves(wire, protocol)]
        return tuple(sorted(able, key=lambda wire: wire != own))

    def _serves(self, wire: Wire, protocol: str) -> bool:
        known = _surface(self._row, wire).protocols
        return known is None or protocol in known

    def options_for(self, model: str) -> dict[str, str]:
        """For `TargetFacts.options`: the family's facts, under the provider's own."""
        found = family(model)
        return {**(found.options if found else _NOTHING), **self.options}

    def _base(self, surface: Surface) -> str:
        base = self._override or surface.base_url or self._row.base_url
        if base is None:
            raise ConfigurationError(
                f"the provider '{self.name}' has no URL of its own: give the target a base_url",
                param="base_url",
            )
        return self._filled(base)

    def _filled(self, text: str, **more: str) -> str:
        if "{" not in text:
            return text
        values = {**self.options, **more}

        def value(match: re.Match[str]) -> str:
            try:
                return values[match[1]]
            except KeyError:
                raise ConfigurationError(
                    f"the provider '{self.name}' wants '{match[1]}': set it in [providers.{self.name}.options] of "
                    "foundry.toml, or give the target a base_url",
                    param=f"providers.{self.name}.options.{match[1]}",
                ) from None

        return _PLACEHOLDER.sub(value, text)

    def _static_headers(self, wire: Wire) -> dict[str, str]:
        if self._secret is None:
            return {}
        header = _BEARER_NAMES.get(_surface(self._row, wire).auth or self._row.auth)
        return {header: self._secret} if header else {"authorization": f"Bearer {self._secret}"}

    def _make_signer(self) -> AwsSigner | None:
        if self._row.auth != "aws-sigv4" or self._secret is not None:
            return None
        from foundry.providers.aws import AwsSigner  # noqa: PLC0415  a quarter of a second, paid by those who call AWS

        named = _AWS_HOST.match(self._override or "")
        region = named[1] if named else self.options.get("region", "us-east-1")
        service, profile = self.options.get("service", "bedrock"), self.options.get("profile")
        return AwsSigner(service=service, region=region, profile=profile)


def provider(
    name: str, table: Mapping[str, Vendor] | None = None, *, base_url: str | None = None
) -> Provider:
    """A provider by name, from `table` (`vendors.merged(...)`) or the shipped one. A missing secret is not raised here but by
    `require_secret` and `headers_for`. Raises ConfigurationError for an unknown name."""
    return Provider(name, vendor(name, table), base_url=base_url)


def _surface(row: Vendor, wire: Wire) -> Surface:
    return row.surfaces.get(wire, _SAME)


_SAME = Surface()
