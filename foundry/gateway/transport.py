"""The one pooled HTTP client to upstreams; every failure comes out as an error of ours.

What it does not know: protocols, targets, money.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from foundry.errors import UpstreamBroke, UpstreamTimeout, UpstreamUnreachable
from foundry.types.routing import Timeouts

_KEEPALIVE_S = 15.0
"""Idle connections are closed by us before an upstream's own keep-alive (uvicorn 5 s behind HAProxy's pool,
vendors 30 s and more) can close them under a request."""
_DRAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one route waits, worked out once per snapshot. A route that sets nothing costs a request nothing."""

    client: aiohttp.ClientTimeout
    first_byte_s: float | None = None
    """None: as long as silence may last anyway."""
    between_chunks_s: float | None = None
    """Where it differs from the silence that `client` allows."""
    total_s: float | None = None


class Transport:
    """A pool of connections. `open` one request, then `read` or `stream` the answer, then `close`."""

    def __init__(self, *, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout_s, sock_read=read_timeout_s
        )
        self._session: aiohttp.ClientSession | None = None
        self.patience = Patience(self._timeout)
        """Of a route that sets nothing."""

    def patience_of(self, timeouts: Timeouts) -> Patience:
        """A route's timeouts over the gateway's."""
        if timeouts == Timeouts():
            return self.patience
        silence = self._timeout.sock_read or 0.0
        between = timeouts.between_chunks_s or silence
        longest = max(between, timeouts.first_byte_s or silence)
        connect = timeouts.connect_s or self._timeout.sock_connect
        return Patience(
            aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=longest),
            first_byte_s=timeouts.first_byte_s,
            between_chunks_s=between if between != longest else None,
            total_s=timeouts.total_s,
        )

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, made inside the running loop at first use."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=60),
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def open(
        self, url: URL, headers: Mapping[str, str], body: bytes, patience: Patience | None = None
    ) -> aiohttp.ClientResponse:
        """POST and wait for the answer's head. Raises UpstreamUnreachable or UpstreamTimeout."""
        limits = self._timeout if patience is None else patience.client
        try:
            return await self.session.post(
                url, data=body, headers=headers, allow_redirects=False, timeout=limits
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamTimeout(
                f"no connection to {url.host}:{url.port} within {limits.sock_connect:g} s"
            ) from error
        except aiohttp.ServerTimeoutError as error:
            raise UpstreamTimeout(f"no answer from {url.host} within {limits.sock_read:g} s") from error
        except aiohttp.ClientError as error:
            raise UpstreamUnreachable(f"{url.host}:{url.port} cannot be reached: {error}") from error

    @staticmethod
    def begun(response: aiohttp.ClientResponse, patience: Patience) -> None:
        """The first byte came: from now on the route's own bound on silence holds."""
        connection = response.connection
        if patience.between_chunks_s is not None and connection is not None and connection.protocol:
            connection.protocol.read_timeout = patience.between_chunks_s
            connection.protocol.start_timeout()

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body. Raises UpstreamBroke or UpstreamTimeout."""
        try:
            return await response.read()
        except aiohttp.ServerTimeoutError as error:
            raise UpstreamTimeout("the upstream fell silent in the middle of its answer") from error
        except aiohttp.ClientError as error:
            raise UpstreamBroke(f"the upstream died while it answered: {error}") from error

    async def stream(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """What arrives, as it arrives. Raises UpstreamBroke or UpstreamTimeout."""
        try:
            async for data in response.content.iter_any():
                yield data
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise UpstreamTimeout("the upstream fell silent in the middle of its answer") from error
        except aiohttp.ClientError as error:
            raise UpstreamBroke(f"the upstream died while it answered: {error}") from error

    async def drain(self, response: aiohttp.ClientResponse) -> None:
        """Read what is left behind an answer that is whole, so that its connection can serve again; an upstream that
        keeps it open loses the connection instead."""
        if response.content.is_eof():
            return
        try:
            async with asyncio.timeout(_DRAIN_S):
                await response.content.wait_eof()
        except (TimeoutError, aiohttp.ClientError):
            response.close()
