"""Everything that the gateway answers, in one table: method and path to what serves it.

Inference is in `CODECS` and goes through the lifecycle; the rest stands in `endpoints` and goes through the desk. Both end in a
usage record, and `/healthz` alone is neither: `tests/foundry/gateway/test_surface.py` walks the table. What it does not know:
what the endpoints do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from foundry.codecs import CODECS
from foundry.errors import MethodNotAllowed, NotFound
from foundry.gateway.exchange import Exchange
from foundry.gateway.models import get_model, list_models, page_models
from foundry.gateway.stateful.edge import Asked, Handler, Reply
from foundry.gateway.stateful.state import State

_SLOT = re.compile(r"\{id\}|\{name\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path that is not inference."""

    method: str
    pattern: str
    """At most one `{id}`, which holds no slash, or at its end a `{name}`, which may."""
    protocol: str
    """Value of `UsageRecord.protocol`."""
    handler: Handler

    def match(self, path: str) -> str | None:
        """The id in the path ("" where the pattern has none); None when it is another path."""
        slot = _SLOT.search(self.pattern)
        if slot is None:
            return "" if path == self.pattern else None
        before, after = self.pattern[: slot.start()], self.pattern[slot.end() :]
        if not path.startswith(before) or not path.endswith(after):
            return None
        found = unquote(path[len(before) : len(path) - len(after)])
        return found if found and (slot[0] == "{name}" or "/" not in found) else None


def endpoints(state: State) -> tuple[Endpoint, ...]:
    """All of them."""
    files, batches, responses = state.files, state.batches, state.responses
    return (
        Endpoint("GET", "/v1/models", "models", _list_models),
        Endpoint("GET", "/v1/models/{name}", "models", _get_model),
        Endpoint("POST", "/v1/files", "files", files.upload),
        Endpoint("GET", "/v1/files", "files", files.list),
        Endpoint("GET", "/v1/files/{id}/content", "files", files.get_content),
        Endpoint("GET", "/v1/files/{id}", "files", files.get),
        Endpoint("DELETE", "/v1/files/{id}", "files", files.remove),
        Endpoint("POST", "/v1/batches", "batches", batches.create),
        Endpoint("GET", "/v1/batches", "batches", batches.list),
        Endpoint("GET", "/v1/batches/{id}", "batches", batches.get),
        Endpoint("POST", "/v1/batches/{id}/cancel", "batches", batches.cancel),
        Endpoint("GET", "/v1/responses/{id}/input_items", "responses", responses.input_items),
        Endpoint("POST", "/v1/responses/{id}/cancel", "responses", responses.cancel),
        Endpoint("GET", "/v1/responses/{id}", "responses", responses.get),
        Endpoint("DELETE", "/v1/responses/{id}", "responses", responses.remove),
    )


class Surface:
    """The table as look-ups."""

    def __init__(self, table: Iterable[Endpoint]) -> None:
        self.endpoints = tuple(table)

    def find(self, exchange: Exchange, method: str, path: str) -> tuple[Endpoint, str]:
        """The endpoint and the id in the path; names the exchange's protocol. Raises NotFound or MethodNotAllowed."""
        methods: list[str] = []
        for endpoint in self.endpoints:
            found = endpoint.match(path)
            if found is not None:
                exchange.protocol = endpoint.protocol
                if endpoint.method == method:
                    return endpoint, found
                methods.append(endpoint.method)
        if methods:
            raise MethodNotAllowed(f"{path} answers {' and '.join(sorted(set(methods)))}, not {method}")
        raise NotFound(f"there is nothing at {path}: this is an OpenAI-compatible endpoint, its root is /v1")

    def walk(self) -> Iterator[tuple[str, str, str]]:
        """Method, path pattern and protocol of everything that is served."""
        for codec in CODECS.values():
            yield "POST", codec.path, codec.name
        for endpoint in self.endpoints:
            yield endpoint.method, endpoint.pattern, endpoint.protocol


async def _list_models(asked: Asked) -> Reply:
    if asked.for_anthropic:
        return Reply(page_models(asked.index, asked.key, asked.query))
    return Reply(list_models(asked.index, asked.key))


async def _get_model(asked: Asked) -> Reply:
    body = get_model(asked.index, asked.key, asked.id, for_anthropic=asked.for_anthropic)
    asked.exchange.route = asked.id
    return Reply(body)
