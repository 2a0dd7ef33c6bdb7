"""The one request lifecycle: blocks -> authorise -> resolve -> guard -> cache -> route -> stream -> settle, once for all protocols.

Every request ends in exactly one usage record, spooled before the last byte of its answer goes out:
answered, refused, failed or abandoned. A caller that goes away cancels the task (Serve does that); the
upstream connection is closed at once, so the engine stops generating, and what was generated is settled.
What it does not know: wire formats (`codecs/`), which target answers (`routing/`), how answers are sent
(`delivery.py`), how usage reaches the store (`metrics/`).
"""

from __future__ import annotations

import time
from functools import partial

import structlog

from foundry.codecs.base import Call, Codec
from foundry.codecs.responses_codec import RESPONSES
from foundry.errors import (
    AuthenticationFailed,
    FoundryError,
    MethodNotAllowed,
    ModelNotFound,
    PermissionDenied,
    UpstreamBroke,
)
from foundry.gateway.blocks import Caller, Networks, caller_of
from foundry.gateway.cache.answers import AnswerCache
from foundry.gateway.delivery import OK, BrokenOff, Delivery, Receive, Scope, Send
from foundry.gateway.exchange import CallerGone, Exchange
from foundry.gateway.guardrails.asking import RouteAsker
from foundry.gateway.guardrails.base import AskRoute
from foundry.gateway.guardrails.compiled import Guarding
from foundry.gateway.inner import Inner
from foundry.gateway.intake import Intake
from foundry.gateway.keys import hash_key
from foundry.gateway.limits.limiter import Limiter
from foundry.gateway.limits.rules import PLAIN, Bound, Demand
from foundry.gateway.routing.asking import Ask
from foundry.gateway.routing.waiting import Wait, wait_of
from foundry.gateway.routing.wiring import Routing
from foundry.gateway.snapshot import Index, Route, SnapshotStore
from foundry.gateway.stateful.responses.entry import ResponsesEntry

log = structlog.get_logger()


class Lifecycle:
    """Serves requests; one instance per gateway replica."""

    def __init__(
        self,
        *,
        snapshots: SnapshotStore,
        intake: Intake,
        delivery: Delivery,
        limiter: Limiter,
        routing: Routing,
        cache: AnswerCache,
        responses: ResponsesEntry,
        pepper: bytes,
        trusted_proxies: Networks,
        inner: Inner,
    ) -> None:
        self._inner = inner
        self._trusted_proxies = trusted_proxies
        self._snapshots = snapshots
        self._routing = routing
        self._cache = cache
        self._intake = intake
        self._delivery = delivery
        self._limiter = limiter
        self._responses = responses
        self._pepper = pepper

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
            await self._refuse(codec, exchange, error, send)
        except Exception as error:  # the process edge: a bug is logged, told and recorded as one
            if isinstance(error, BrokenOff):
                raise  # settled already; a broken connection tells the caller that the answer is not whole
            log.exception("request_failed", request_id=exchange.request_id, error=repr(error))
            failure = FoundryError("an internal error: the gateway's log has it under this request id")
            exchange.fail(failure)
            if exchange.status == OK:
                raise  # the answer has begun, as above
            await self._delivery.refuse(
                exchange, failure, codec.error_body(failure, exchange.request_id), send
            )
        finally:
            self._delivery.settle(exchange)

    async def _refuse(self, codec: Codec, exchange: Exchange, error: FoundryError, send: Send) -> None:
        if exchange.head_sent:  # the caller was told to wait, in a stream
            await self._delivery.break_off(codec, exchange, error, send)
        else:
            await self._delivery.refuse(exchange, error, codec.error_body(error, exchange.request_id), send)

    async def _steps(
        self,
        codec: Codec,
        exchange: Exchange,
        headers: dict[bytes, bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        caller = self.admit(exchange, scope, headers)
        if scope["method"] != "POST":
            raise MethodNotAllowed(f"{scope['path']} answers POST, not {scope['method']}")
        index = self.authorise(exchange, headers)
        body = await self._intake.read(headers, receive)
        exchange.request_bytes = len(body)
        call = codec.parse(body, headers.get(b"content-type", b"").decode("latin-1"))
        exchange.route, exchange.streamed, exchange.user = call.model, call.stream, call.user
        exchange.estimated = call.estimated
        route = self._resolve(index, exchange, codec, call)
        if caller is not None:
            index.blocks.check_route(call.model, caller)
        if codec is RESPONSES:

            async def onwards(call: Call, send: Send) -> None:
                await self._through(index, codec, exchange, call, route, headers, send)

            await self._responses.serve(exchange, call, send, onwards)
        else:
            await self._through(index, codec, exchange, call, route, headers, send)

    async def _through(
        self,
        index: Index,
        codec: Codec,
        exchange: Exchange,
        call: Call,
        route: Route,
        headers: dict[bytes, bytes],
        send: Send,
    ) -> None:
        await self._limit(index, exchange, call)
        call = await self._guard(index, exchange, call, route)
        forward = partial(self._forward, index, wait_of(headers))
        if route.cache is not None:
            await self._cache.serve(codec, exchange, call, route, route.cache, headers, send, forward)
        else:
            await forward(codec, exchange, call, route, send)

    def admit(self, exchange: Exchange, scope: Scope, headers: dict[bytes, bytes]) -> Caller | None:
        """Who calls, where a blocking rule wants to know. Raises CallerBlocked, before anything is done."""
        blocks = self._snapshots.blocks
        if blocks is None or blocks.empty or exchange.acting_for:
            return None
        caller = caller_of(scope, headers, self._trusted_proxies)
        blocks.check(caller)
        return caller

    async def _guard(self, index: Index, exchange: Exchange, call: Call, route: Route) -> Call:
        """What of the request may go on. Raises GuardrailBlocked, GuardrailUnavailable."""
        plan = index.guards.plan(route.guardrails, exchange.key.guardrails if exchange.key else ())
        if plan is None or exchange.for_guard:
            return call

        def asking(exchange: Exchange) -> AskRoute:
            return RouteAsker(index, self._inner, exchange)

        exchange.guard = Guarding(plan, exchange, asking)
        return await exchange.guard.check_input(call)

    def authorise(self, exchange: Exchange, headers: dict[bytes, bytes]) -> Index:
        """Find the caller's key in the snapshot. Raises AuthenticationFailed, PermissionDenied or
        SnapshotMissing."""
        index = self._snapshots.current()
        entry = index.keys.get(exchange.acting_for or self._hashed(headers))
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

    def _hashed(self, headers: dict[bytes, bytes]) -> str:
        token = _credential(headers)
        if not token:
            raise AuthenticationFailed("no API key: send 'Authorization: Bearer fk-...'")
        return hash_key(self._pepper, token.decode("latin-1"))

    def _resolve(self, index: Index, exchange: Exchange, codec: Codec, call: Call) -> Route:
        route = index.routes.get(call.model)
        if (
            route is None
            or exchange.key is None
            or not (exchange.for_guard or route.visible_to(exchange.key))
        ):
            raise ModelNotFound(
                f"the model '{call.model}' does not exist or your key may not use it: see GET /v1/models",
                param="model",
            )
        if route.entry.task not in codec.tasks:
            raise ModelNotFound(
                f"the model '{call.model}' does not serve {codec.path}: its task is {route.entry.task}",
                param="model",
            )
        return route

    async def _limit(self, index: Index, exchange: Exchange, call: Call) -> None:
        """Reserve what the request may use. Raises LimitExceeded, BudgetExhausted, PriceUnknown or LimitsUnavailable."""
        assert exchange.key is not None  # noqa: S101  authorise sets it or raises
        binding = index.limits.binding(exchange.key, call.model)
        if binding is not None:
            # with what the gateway itself put in: the turns before, of a stored conversation
            size = (
                sum(len(memoryview(value)) for value in call.fields.values())
                if exchange.protocol == RESPONSES.name
                else 0
            )
            demand = binding.demand(call, max(size, exchange.request_bytes))
            await self._reserve(exchange, binding, demand, call.user)

    async def limit_plain(self, index: Index, exchange: Exchange) -> None:
        """Reserve for a request that no model answers. Raises LimitExceeded or LimitsUnavailable."""
        assert exchange.key is not None  # noqa: S101  authorise sets it or raises
        bound = index.limits.of_key(exchange.key)
        if bound is not None:
            await self._reserve(exchange, bound, PLAIN, "")

    async def _reserve(self, exchange: Exchange, bound: Bound, demand: Demand, user: str) -> None:
        limiter, within = self._limiter, exchange.within
        exchange.reservation = limiter.try_reserve(bound, demand, user, within) or await limiter.reserve(
            bound, demand, user, within
        )

    async def _forward(
        self, index: Index, wait: Wait, codec: Codec, exchange: Exchange, call: Call, route: Route, send: Send
    ) -> None:
        """Have the request answered by one of the route's targets, and pass the answer on."""
        ask = Ask(codec, call, exchange, wait)
        if wait.streams and call.stream:
            ask.say = partial(self._delivery.comment, codec, exchange, send)
        live = await self._routing.dispatcher.begin(ask, index, route)
        self._routing.shadows.copy(ask, index, route)
        if live.answer is None:
            await self._delivery.stream(ask, live, send, self._routing.dispatcher.resume)
            return
        try:
            if exchange.head_sent:
                raise UpstreamBroke(
                    f"{live.attempt.upstream.target_id} answered whole where a stream was due"
                )
            await self._delivery.answer(exchange, live.answer, send)
        finally:
            live.close()


def _credential(headers: dict[bytes, bytes]) -> bytes:
    """The key as OpenAI's clients send it (bearer), or Anthropic's (`x-api-key`) or Azure's (`api-key`)."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return headers.get(b"x-api-key", b"").strip() or headers.get(b"api-key", b"").strip()
