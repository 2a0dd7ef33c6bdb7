"""Where requests to stateful endpoints are served: authorised, limited, answered and recorded like every other one.

What it does not know: which endpoints there are (`gateway/surface.py`), what they do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

import structlog

from foundry.codecs.openai_errors import error_body
from foundry.errors import FoundryError, NotFound
from foundry.gateway.exchange import CallerGone, Exchange
from foundry.gateway.lifecycle import Lifecycle, Receive, Scope, Send
from foundry.gateway.stateful.edge import Asked, Handler, Reply
from foundry.gateway.stateful.objects import is_id

log = structlog.get_logger()

_MAX_QUERY_FIELDS = 20


class Desk:
    """Serves one request through a handler; whatever happens, it is answered and recorded."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def serve(
        self,
        handler: Handler,
        path_id: str,
        exchange: Exchange,
        headers: dict[bytes, bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Authorise, limit, run the handler, settle, answer."""
        lifecycle = self._lifecycle
        try:
            lifecycle.authorise(exchange, headers)
            reply = await handler(self._asked(path_id, exchange, headers, scope, receive))
            await self._answer(exchange, reply, send)
        except CallerGone:
            return
        except FoundryError as error:
            exchange.fail(error)
            if exchange.response_bytes:
                raise  # the answer has begun: a broken connection tells the caller that it is not whole
            await lifecycle.refuse(exchange, error, error_body(error, exchange.request_id), send)
        except Exception as error:  # the process edge: a bug is logged, told and recorded as one
            log.exception("request_failed", request_id=exchange.request_id, error=repr(error))
            failure = FoundryError("an internal error: the gateway's log has it under this request id")
            exchange.fail(failure)
            if exchange.response_bytes:
                raise
            await lifecycle.refuse(exchange, failure, error_body(failure, exchange.request_id), send)
        finally:
            lifecycle.settle(exchange)

    def _asked(
        self, path_id: str, exchange: Exchange, headers: dict[bytes, bytes], scope: Scope, receive: Receive
    ) -> Asked:
        assert exchange.key is not None  # noqa: S101  authorise sets it or raises
        if path_id and not is_id(path_id):
            raise NotFound(f"there is nothing with the id '{path_id[:128]}'")
        query: bytes = scope.get("query_string", b"")
        fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True)[:_MAX_QUERY_FIELDS]

        async def body() -> bytes:
            return await self._lifecycle.read_body(exchange, headers, receive)

        return Asked(exchange, exchange.key, path_id, dict(fields), headers, receive, body)

    async def _answer(self, exchange: Exchange, reply: Reply, send: Send) -> None:
        if isinstance(reply.body, bytes):
            await self._lifecycle.answer(exchange, reply.body, send)
        else:
            await self._stream(exchange, reply, reply.body, send)

    async def _stream(self, exchange: Exchange, reply: Reply, chunks: AsyncIterator[bytes], send: Send) -> None:
        """One chunk is always held back, so that the record is written before the last byte goes out."""
        held = await anext(chunks, b"")
        exchange.status = reply.status
        await self._lifecycle.begin(exchange, reply.content_type, reply.length, send)
        async for chunk in chunks:
            exchange.response_bytes += len(held)
            await send({"type": "http.response.body", "body": held, "more_body": True})
            held = chunk
        exchange.response_bytes += len(held)
        exchange.outcome = "completed"
        self._lifecycle.settle(exchange)
        await send({"type": "http.response.body", "body": held})
