"""The outermost ASGI layer: a request id on every request, answer and log line, and a limit on the body.

Pure ASGI, no buffering. What it does not know: routes, bodies' meaning.
"""

from __future__ import annotations

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_api.kit.problem import problem_response
from foundry.errors import BodyTooLarge
from foundry.telemetry import accepted_request_id, new_id

MAX_BODY_BYTES = 1024 * 1024
_HEADER = b"x-request-id"


class Edge:
    """Wraps the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = accepted_request_id(headers.get(_HEADER, b"")) or new_id("req")
        scope["request_id"] = request_id
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise BodyTooLarge(f"the body exceeds {MAX_BODY_BYTES} bytes")
            return message

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (_HEADER, request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            if int(headers.get(b"content-length", b"0") or b"0") > MAX_BODY_BYTES:
                refusal = problem_response(
                    BodyTooLarge(f"the body exceeds {MAX_BODY_BYTES} bytes"), request_id
                )
                await refusal(scope, receive, tagged)
                return
            await self._app(scope, counted, tagged)
