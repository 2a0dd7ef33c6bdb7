"""The caller's request, read in bounded memory and time. What it does not know: what is in it."""

from __future__ import annotations

import asyncio

from foundry.errors import BodyTooLarge, MalformedBody
from foundry.gateway.delivery import Receive
from foundry.gateway.exchange import CallerGone

_LENGTH_DIGITS = 24
"""A declared length is read this far: Python refuses to read thousands of digits."""


class Intake:
    """Reads request bodies."""

    def __init__(self, *, max_body_bytes: int, body_timeout_s: float) -> None:
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s

    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body. Raises BodyTooLarge, MalformedBody when it stops half-way, CallerGone."""
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:_LENGTH_DIGITS]) > self._max_body_bytes:
            raise self._too_large(int(declared[:_LENGTH_DIGITS]))
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._read_rest(body, receive)
        elif message["type"] == "http.disconnect":
            raise CallerGone
        if len(body) > self._max_body_bytes:
            raise self._too_large(len(body))
        return body

    async def _read_rest(self, first: bytes, receive: Receive) -> bytes:
        parts, size, more = [first], len(first), True
        while more:
            try:
                async with asyncio.timeout(self._body_timeout_s):
                    message = await receive()
            except TimeoutError as error:
                raise MalformedBody(
                    f"the body stopped after {size} bytes: nothing came for {self._body_timeout_s:g} s"
                ) from error
            if message["type"] == "http.disconnect":
                raise CallerGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body_bytes:
                raise self._too_large(size)
            more = message.get("more_body", False)
        return b"".join(parts)

    def _too_large(self, size: int) -> BodyTooLarge:
        return BodyTooLarge(f"the body has at least {size} bytes, the limit is {self._max_body_bytes} bytes")
