"""What the engines that we serve ourselves (whisper, piper) have in common as HTTP services: errors, the model's name, its list.

What it does not know: tokens and path prefixes (`engine_edge.py`), what any engine computes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from foundry.codecs.openai_errors import error_body
from foundry.errors import FoundryError, ModelNotFound, UnsupportedParameter

Handler = Callable[[Request], Awaitable[Response]]


class ModelService:
    """One model as an HTTP service. name: what it answers to."""

    def __init__(self, name: str) -> None:
        self.name = name

    def app(self, routes: Mapping[str, Handler], *, listed: Mapping[str, Handler] | None = None) -> Starlette:
        """POST routes, GET routes (`listed`), `/v1/models` and `/health`."""
        return Starlette(
            routes=[
                *(Route(path, _answering(handler), methods=["POST"]) for path, handler in routes.items()),
                *(Route(path, _answering(handler)) for path, handler in (listed or {}).items()),
                Route("/v1/models", self._models),
                Route("/health", _health),
            ]
        )

    def require_model(self, asked: str) -> None:
        """Raises ModelNotFound for another model's name."""
        if asked != self.name:
            raise ModelNotFound(f"this engine serves '{self.name}', not '{asked}'", param="model")

    def refuse_unknown(self, given: Iterable[str], known: frozenset[str]) -> None:
        """Raises UnsupportedParameter naming the first parameter that the model has not, and what it has."""
        for name in given:
            if name not in known:
                raise UnsupportedParameter(
                    f"'{name}' is not something that '{self.name}' has: it takes {', '.join(sorted(known))}",
                    param=name,
                )

    async def _models(self, request: Request) -> Response:
        del request
        row = {"id": self.name, "object": "model", "owned_by": "foundry"}
        return JSONResponse({"object": "list", "data": [row]})


async def _health(request: Request) -> Response:
    del request
    return PlainTextResponse("ok")


def _answering(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except FoundryError as error:
            body = error_body(error, request.headers.get("x-request-id", ""))
            return Response(body, error.status, media_type="application/json")

    return answer
