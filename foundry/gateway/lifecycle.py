"""The one request lifecycle: authorise -> resolve -> route -> stream -> settle, once for all protocols.

Every request ends in exactly one usage record, spooled before the last byte of its answer goes out:
answered, refused, failed or abandoned. A caller that goes away cancels the task (Serve does that); the
upstream connection is closed at once, so the engine stops generating, and what was generated is settled.
What it does not know: wire formats (`codecs/`), HTTP to upstreams (`transport.py`), how usage reaches the
store (`metrics/`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import aiohttp
import structlog

from foundry.codecs.base import BYTES_PER_TOKEN, Call, Codec, Meter
from foundry.errors import (
    AuthenticationFailed,
    BodyTooLarge,
    FoundryError,
    MalformedBody,
    MethodNotAllowed,
    ModelNotFound,
    PermissionDenied,
    SpoolFull,
    UpstreamBroke,
)
from foundry.gateway.exchange import CallerGone, Exchange
from foundry.gateway.keys import hash_key
from foundry.gateway.refusals import refusal_from
from foundry.gateway.snapshot import Index, Route, SnapshotStore
from foundry.gateway.transport import Transport
from foundry.types.usage import UsageCounts, UsageRecord

log = structlog.get_logger()

Scope = MutableMapping[str, Any]  # Any: the ASGI specification's own type
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]  # Any: the ASGI specification's own type
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]  # Any: the ASGI specification's own type
Headers = list[tuple[bytes, bytes]]

_OK = 200
_JSON = (b"content-type", b"application/json")
_SSE: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class UsageSink(Protocol):
    """Where usage records go; writing is durable when `append` returns."""

    def append(self, record: UsageRecord) -> None:
        """Write one record. Raises a FoundryError when it cannot be kept."""
        ...


class Lifecycle:
    """Serves requests; one instance per gateway replica."""

    def __init__(
        self,
        *,
        snapshots: SnapshotStore,
        transport: Transport,
        sink: UsageSink,
        pepper: bytes,
        cluster: str,
        gateway: str,
        max_body_bytes: int,
        body_timeout_s: float,
        sends_request_id: bool,
    ) -> None:
        self._snapshots = snapshots
        self._transport = transport
        self._sink = sink
        self._pepper = pepper
        self._cluster = cluster
        self._gateway = gateway
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._sends_request_id = sends_request_id

    async def infer(
        self,
        codec: Codec,
        exchange: Exchange,
        headers: dict[bytes, bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve one inference request through `codec`: whatever happens, it is answered and recorded."""
        try:
            await self._steps(codec, exchange, headers, scope, receive, send)
        except CallerGone:
            return
        except FoundryError as error:
            exchange.fail(error)
            await self.refuse(exchange, error, codec.error_body(error, exchange.request_id), send)
        except Exception as error:  # the process edge: a bug is logged, told and recorded as one
            log.exception("request_failed", request_id=exchange.request_id, error=repr(error))
            failure = FoundryError("an internal error: the gateway's log has it under this request id")
            exchange.fail(failure)
            if exchange.status == _OK:
                raise  # the answer has begun: a broken connection tells the caller that it is not whole
            await self.refuse(exchange, failure, codec.error_body(failure, exchange.request_id), send)
        finally:
            self.settle(exchange)

    async def _steps(
        self,
        codec: Codec,
        exchange: Exchange,
        headers: dict[bytes, bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if scope["method"] != "POST":
            raise MethodNotAllowed(f"{scope['path']} answers POST, not {scope['method']}")
        index = self.authorise(exchange, headers)
        body = await self._read_body(exchange, headers, receive)
        call = codec.parse(body)
        exchange.route, exchange.streamed = call.model, call.stream
        route = self._resolve(index, exchange, codec, call)
        await self._forward(codec, exchange, call, route, send)

    def authorise(self, exchange: Exchange, headers: dict[bytes, bytes]) -> Index:
        """Find the caller's key in the snapshot. Raises AuthenticationFailed, PermissionDenied or
        SnapshotMissing."""
        index = self._snapshots.current()
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token.strip():
            raise AuthenticationFailed("no API key: send 'Authorization: Bearer fk-...'")
        entry = index.keys.get(hash_key(self._pepper, token.strip().decode("latin-1")))
        if entry is None:
            raise AuthenticationFailed(
                "this API key is not known here: it may be mistyped, revoked or from another instance"
            )
        expiry = index.expiries.get(entry.key_id)
        if expiry is not None and expiry <= time.time():
            raise AuthenticationFailed(f"this API key expired at {entry.expires_at}: create a new one")
        exchange.key = entry
        if "inference" not in entry.scopes:
            raise PermissionDenied("this API key may not call models: it lacks the scope 'inference'")
        return index

    def settle(self, exchange: Exchange) -> None:
        """Write the usage record, once. Synchronous: it also runs under cancellation. Raises SpoolFull."""
        if not exchange.settled:
            exchange.settled = True
            self._sink.append(exchange.record(cluster=self._cluster, gateway=self._gateway))

    async def _read_body(self, exchange: Exchange, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            raise self._too_large(int(declared))
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._read_rest(body, receive)
        elif message["type"] == "http.disconnect":
            raise CallerGone
        exchange.request_bytes = len(body)
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

    def _resolve(self, index: Index, exchange: Exchange, codec: Codec, call: Call) -> Route:
        route = index.routes.get(call.model)
        if route is None or exchange.key is None or not route.visible_to(exchange.key):
            raise ModelNotFound(
                f"the model '{call.model}' does not exist or your key may not use it: see GET /v1/models",
                param="model",
            )
        if route.entry.task != codec.task:
            raise ModelNotFound(
                f"the model '{call.model}' does not serve {codec.path}: its task is {route.entry.task}",
                param="model",
            )
        return route

    async def _forward(self, codec: Codec, exchange: Exchange, call: Call, route: Route, send: Send) -> None:
        upstream = exchange.upstream = route.upstreams[0]
        upstream.require_ready()
        body = codec.upstream_body(call, upstream.model, running_usage=upstream.running_usage)
        headers = {**upstream.headers, "x-request-id": exchange.request_id}
        exchange.opened_ns = time.perf_counter_ns()
        response = await self._transport.open(upstream.url(codec.path), headers, body)
        try:
            exchange.upstream_first_ns = time.perf_counter_ns()
            if response.status != _OK:
                raise refusal_from(
                    response.status,
                    response.headers,
                    await self._transport.read(response),
                    upstream.target_id,
                )
            if call.stream and response.content_type == "text/event-stream":
                await self._stream(codec, exchange, codec.meter(call), response, send)
            else:
                await self._whole(codec, exchange, response, send)
        finally:
            response.close()

    async def _whole(
        self, codec: Codec, exchange: Exchange, response: aiohttp.ClientResponse, send: Send
    ) -> None:
        body = await self._transport.read(response)
        counts = codec.counts(body)
        if counts is not None:
            exchange.count(counts, "reported")
        else:
            exchange.count(
                _estimate(exchange.request_bytes, codec.estimated_output_tokens(body)), "estimated"
            )
        await self.answer(exchange, body, send)

    async def _stream(
        self, codec: Codec, exchange: Exchange, meter: Meter, response: aiohttp.ClientResponse, send: Send
    ) -> None:
        """Pass events on as they come. The head goes out with the first of them: an upstream that fails before is refused
        like one that never answered, with a status of its own. What came with the end marker goes out with ours."""
        start = {"type": "http.response.start", "status": _OK, "headers": self._headers(exchange, _SSE)}
        last, begun = codec.end_marker, False
        try:
            async for data in self._transport.stream(response):
                out = meter.feed(data)
                exchange.last_token_ns = time.perf_counter_ns()
                if meter.started and not exchange.first_token_ns:
                    exchange.first_token_ns = exchange.last_token_ns
                exchange.response_bytes += len(out)
                if meter.ended and meter.error is None:
                    last = out + last
                    break
                if out:
                    if not begun:
                        begun, exchange.status = True, _OK  # also for a record made under cancellation
                        await send(start)
                    await send({"type": "http.response.body", "body": out, "more_body": True})
            _require_whole(meter)
            exchange.outcome = "completed"
        except FoundryError as error:
            if not begun:
                raise
            exchange.fail(error)
            last = codec.error_event(error, exchange.request_id)
        finally:
            _count_stream(exchange, meter)
        exchange.status = _OK
        try:
            self.settle(exchange)
        except SpoolFull as error:
            last = codec.error_event(error, exchange.request_id)
        if not begun:
            await send(start)
        await send({"type": "http.response.body", "body": last})
        await self._transport.drain(response)

    async def answer(self, exchange: Exchange, body: bytes, send: Send) -> None:
        """Send a whole answer, after settling."""
        exchange.status, exchange.response_bytes, exchange.outcome = _OK, len(body), "completed"
        self.settle(exchange)
        headers = self._headers(exchange, [_JSON, (b"content-length", b"%d" % len(body))])
        if exchange.cost_usd is not None:
            headers.append((b"x-foundry-cost-usd", f"{exchange.cost_usd:f}".encode()))
        await send({"type": "http.response.start", "status": _OK, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def refuse(self, exchange: Exchange, error: FoundryError, body: bytes, send: Send) -> None:
        """Send an error as the whole answer, after settling."""
        exchange.status, exchange.response_bytes = error.status, len(body)
        self.settle(exchange)
        headers = self._headers(exchange, [_JSON, (b"content-length", b"%d" % len(body))])
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _headers(self, exchange: Exchange, headers: Headers) -> Headers:
        named = [*headers]
        if self._sends_request_id:
            named.append((b"x-request-id", exchange.request_id.encode()))
        if exchange.upstream is not None:
            named.append((b"x-foundry-target", exchange.upstream.target_id.encode()))
        return named


def _require_whole(meter: Meter) -> None:
    """Raises UpstreamBroke when the stream reported an error or stopped before its end marker."""
    if meter.error is not None:
        raise UpstreamBroke(f"the upstream failed in the middle of its answer: {meter.error}")
    if not meter.ended:
        raise UpstreamBroke("the upstream ended its answer half-way")


def _count_stream(exchange: Exchange, meter: Meter) -> None:
    """Final counts if the stream is whole, running ones if it was cut, our own if the upstream told
    nothing."""
    counts = meter.counts()
    if counts is not None:
        exchange.count(counts, "reported" if meter.ended else "partial")
    elif meter.started:
        exchange.count(_estimate(exchange.request_bytes, meter.estimated_output_tokens()), "estimated")


def _estimate(request_bytes: int, output_tokens: int) -> UsageCounts:
    return UsageCounts(input_tokens=-(-request_bytes // BYTES_PER_TOKEN), output_tokens=output_tokens)
