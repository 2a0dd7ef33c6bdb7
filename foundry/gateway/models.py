"""`GET /v1/models` and `GET /v1/models/{id}`: the routes that a key may use, in OpenAI's shape.

What it does not know: authorisation, HTTP.
"""

from __future__ import annotations

import msgspec

from foundry.errors import ModelNotFound
from foundry.gateway.snapshot import Index, Route
from foundry.types.snapshot import KeyEntry

_encoder = msgspec.json.Encoder()


def list_models(index: Index, key: KeyEntry) -> bytes:
    """`{"object": "list", "data": [...]}`, sorted by name."""
    visible = [index.routes[name] for name in sorted(index.routes) if index.routes[name].visible_to(key)]
    return _encoder.encode({"object": "list", "data": [_card(route) for route in visible]})


def get_model(index: Index, key: KeyEntry, name: str) -> bytes:
    """One model. Raises ModelNotFound when it does not exist or the key may not see it."""
    route = index.routes.get(name)
    if route is None or not route.visible_to(key):
        raise ModelNotFound(
            f"the model '{name}' does not exist or your key may not use it: see GET /v1/models", param="model"
        )
    return _encoder.encode(_card(route))


def _card(route: Route) -> dict[str, object]:
    entry = route.entry
    return {
        "id": entry.name,
        "object": "model",
        "created": int(entry.created_at.timestamp()),
        "owned_by": entry.owned_by,
    }
