"""Where everything but inference is served: authorised, limited, answered and recorded like every other request.

What it does not know: which endpoints there are (`gateway/surface.py`), what they do.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import structlog

from foundry.codecs import anthropic_errors, openai_errors
from foundry.codecs.base import Answer
from foundry.errors import FoundryError
from foundry.gateway.delivery import OK, BrokenOff, Delivery, Receive, Scope, Send
from foundry.gateway.exchange import CallerGone, Exchange
from foundry.gateway.intake import Intake
from foundry.gateway.lifecycle import Lifecycle
from foundry.gateway.stateful.edge import ANTHROPIC_VERSION, Asked, Reply
from foundry.gateway.surface import Surface

log = structlog.get_logger()

_MAX_QUERY_CHARS = 4096


class Desk:
    """Serves one request through its endpoint; whatever happens, it is answered and recorded."""

    def __init__(self, surface: Surface, lifecycle: Lifecycle, intake: Intake, delivery: Delivery) -> None:
        self._surface = surface
        self._lifecycle = lifecycle
        self._intake = intake
        self._delivery = delivery

    async def serve(
        self, exchange: Exchange, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Find, authorise, handle, settle, answer."""
        try:
            await self._steps(exchange, headers, scope, receive, send)
        except CallerGone:
            return
        except FoundryError as error:
            await self._refuse(exchange, error, headers, send)
        except Exception as error:  # the process edge: a bug is logged, told and recorded as one
            if isinstance(error, BrokenOff):
                raise  # a broken connection tells the caller that the answer is not whole
            log.exception("request_failed", request_id=exchange.request_id, error=repr(error))
            if exchange.status == OK:
                raise  # the answer has begun, as above
            failure = FoundryError("an internal error: the gateway's log has it under this request id")
            await self._refuse(exchange, failure, headers, send)
        finally:
            self._delivery.settle(exchange)

    async def _refuse(
        self, exchange: Exchange, error: FoundryError, headers: dict[bytes, bytes], send: Send
    ) -> None:
        exchange.fail(error)
        write = anthropic_errors.error_body if ANTHROPIC_VERSION in headers else openai_errors.error_body
        await self._delivery.refuse(exchange, error, write(error, exchange.request_id), send)

    async def _steps(
        self, exchange: Exchange, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._lifecycle.admit(exchange, scope, headers)
        endpoint, path_id = self._surface.find(exchange, scope["method"], scope["path"])
        index = self._lifecycle.authorise(exchange, headers)
        assert exchange.key is not None  # noqa: S101  authorise sets it or raises
        await self._lifecycle.limit_plain(index, exchange)

        async def body() -> bytes:
            data = await self._intake.read(headers, receive)
            exchange.request_bytes = len(data)
            return data

        query = _query(scope)
        reply = await endpoint.handler(
            Asked(exchange, exchange.key, index, path_id, query, headers, receive, body)
        )
        await self._send(exchange, reply, send)

    async def _send(self, exchange: Exchange, reply: Reply, send: Send) -> None:
        if isinstance(reply.body, bytes):
            await self._delivery.answer(
                exchange, Answer(reply.body, None, content_type=reply.content_type), send
            )
        else:
            await self._delivery.pieces(exchange, reply.body, reply.content_type, reply.length, send)


def _query(scope: Scope) -> dict[str, str]:
    raw: bytes = scope.get("query_string", b"")
    return dict(parse_qsl(raw[:_MAX_QUERY_CHARS].decode("latin-1"), keep_blank_values=True))
