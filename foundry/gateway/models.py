"""`GET /v1/models` and `GET /v1/models/{id}`: the routes that a key may use, in OpenAI's shape or in Anthropic's.

Anthropic's clients send `anthropic-version`; their list comes in pages. What it does not know: authorisation, HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC

import msgspec

from foundry.errors import InvalidParameter, ModelNotFound
from foundry.gateway.snapshot import Index, Route
from foundry.types.snapshot import KeyEntry

_PAGE, _MAX_PAGE, _DIGITS = 20, 1000, 4
"""Anthropic's own default and maximum."""
_encoder = msgspec.json.Encoder()


def list_models(index: Index, key: KeyEntry) -> bytes:
    """OpenAI's `{"object": "list", "data": [...]}`, sorted by name."""
    return _encoder.encode({"object": "list", "data": [_card(route) for route in _visible(index, key)]})


def page_models(index: Index, key: KeyEntry, query: Mapping[str, str]) -> bytes:
    """Anthropic's page, sorted by name: `limit`, and `after_id` or `before_id`. Raises InvalidParameter."""
    limit = _limit(query.get("limit"))
    routes = _visible(index, key)
    after, before = query.get("after_id"), query.get("before_id")
    if after is not None and before is not None:
        raise InvalidParameter("'after_id' and 'before_id' cannot be combined", param="before_id")
    if before is not None:
        routes = [route for route in routes if route.entry.name < before]
        page = routes[-limit:]
    else:
        routes = [route for route in routes if after is None or route.entry.name > after]
        page = routes[:limit]
    return _encoder.encode(
        {
            "data": [_anthropic_card(route) for route in page],
            "has_more": len(routes) > len(page),
            "first_id": page[0].entry.name if page else None,
            "last_id": page[-1].entry.name if page else None,
        }
    )


def get_model(index: Index, key: KeyEntry, name: str, *, for_anthropic: bool = False) -> bytes:
    """One model. Raises ModelNotFound when it does not exist or the key may not see it."""
    route = index.routes.get(name)
    if route is None or not route.visible_to(key):
        raise ModelNotFound(
            f"the model '{name}' does not exist or your key may not use it: see GET /v1/models", param="model"
        )
    return _encoder.encode(_anthropic_card(route) if for_anthropic else _card(route))


def _visible(index: Index, key: KeyEntry) -> list[Route]:
    return [index.routes[name] for name in sorted(index.routes) if index.routes[name].visible_to(key)]


def _limit(text: str | None) -> int:
    if text is None:
        return _PAGE
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and 1 <= int(text) <= _MAX_PAGE):
        raise InvalidParameter(
            f"'limit' is '{text[:20]}': it must be a number from 1 to {_MAX_PAGE}", param="limit"
        )
    return int(text)


def _anthropic_card(route: Route) -> dict[str, object]:
    entry = route.entry
    created = entry.created_at.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    return {
        "type": "model",
        "id": entry.name,
        "display_name": entry.name,
        "created_at": f"{created.isoformat()}Z",
    }


def _card(route: Route) -> dict[str, object]:
    entry = route.entry
    return {
        "id": entry.name,
        "object": "model",
        "created": int(entry.created_at.timestamp()),
        "owned_by": entry.owned_by,
    }
