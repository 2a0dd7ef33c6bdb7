"""`/v1/responses/{id}`: get, delete, cancel, input items.

What it does not know: how responses are made (`turns.py`, `background.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from foundry.codecs.base import SSE, Call
from foundry.codecs.replay import REPLAYS
from foundry.codecs.responses_codec import RESPONSES
from foundry.errors import InvalidParameter
from foundry.gateway.stateful.edge import Asked, Paging, Reply, listing, reply_json
from foundry.gateway.stateful.responses.background import Background
from foundry.gateway.stateful.responses.store import Responses, ended, items_of
from foundry.types.responses import RUNNING, StoredResponse

_PAGE, _MAX_PAGE = 20, 100
_NOBODY = Call(model="", stream=True, fields={})
"""Whom a kept response is replayed for: its events do not depend on the caller."""
_item = msgspec.json.Decoder(dict[str, object])


class ResponseEndpoints:
    """All but create, which is inference."""

    def __init__(self, responses: Responses, background: Background) -> None:
        self._responses = responses
        self._background = background

    async def get(self, asked: Asked) -> Reply:
        """`GET /v1/responses/{id}?stream=&starting_after=`."""
        stored = await self._responses.get(asked.project_id, asked.id)
        if asked.query.get("stream", "false") != "true":
            return Reply(bytes(stored.response))
        if stored.status not in ("completed", "incomplete"):
            raise InvalidParameter(
                f"the response {stored.id} is {stored.status}: only one that was completed can be streamed",
                param="stream",
            )
        after = asked.query.get("starting_after", "-1")
        if not after.removeprefix("-").isdecimal():
            raise InvalidParameter("'starting_after' must be a sequence number", param="starting_after")
        events = REPLAYS[RESPONSES.name].stream(bytes(stored.response), _NOBODY)
        return Reply(b"".join(events[int(after) + 1 :]), f"{SSE}; charset=utf-8")

    async def remove(self, asked: Asked) -> Reply:
        """`DELETE /v1/responses/{id}`; one that runs is cancelled."""
        stored = await self._responses.get(asked.project_id, asked.id)
        if stored.status in RUNNING:
            await self._cancel(asked.project_id, stored)
        await self._responses.delete(asked.project_id, stored.id)
        return reply_json({"id": stored.id, "object": "response", "deleted": True})

    async def cancel(self, asked: Asked) -> Reply:
        """`POST /v1/responses/{id}/cancel`; one that has ended stays as it is."""
        stored = await self._responses.get(asked.project_id, asked.id)
        if not stored.background:
            raise InvalidParameter("Cannot cancel a synchronous response.", param="response_id")
        if stored.status in RUNNING:
            stored = await self._cancel(asked.project_id, stored)
        return Reply(bytes(stored.response))

    async def input_items(self, asked: Asked) -> Reply:
        """`GET /v1/responses/{id}/input_items?after=&limit=&order=`: the conversation before it, and its own input."""
        paging = Paging.of(asked.query, default=_PAGE, most=_MAX_PAGE)
        conversation = await self._responses.conversation(asked.project_id, asked.id)
        *before, last = conversation
        raws = [item for stored in before for item in items_of(stored)] + list(last.input)
        items = {f"{number:06d}": _shown(raw, last.id, number) for number, raw in enumerate(raws)}
        by_id = {str(item["id"]): position for position, item in items.items()}
        if paging.after is not None:
            paging = Paging(by_id.get(paging.after, ""), paging.limit, paging.newest_first)

        async def load(positions: Sequence[str]) -> list[dict[str, object] | None]:
            return [items[position] for position in positions]

        found, has_more = await paging.fill(list(items), load, lambda _: True)
        return listing(found, [str(item["id"]) for item in found], has_more=has_more)

    async def _cancel(self, project_id: str, stored: StoredResponse) -> StoredResponse:
        cancelled = ended(stored, "cancelled")
        await self._responses.cancel(project_id, stored.id)
        await self._responses.put(project_id, cancelled)
        self._background.poke(stored.id)
        return cancelled


def _shown(raw: msgspec.Raw, response_id: str, number: int) -> dict[str, object]:
    """An item as the API lists it: with a type, an id and content in parts."""
    item = _item.decode(raw)
    kind = str(item.get("type") or "message")
    shown: dict[str, object] = {
        "id": f"{kind[:3]}_{response_id.removeprefix('resp_')}_{number}",
        **item,
        "type": kind,
    }
    content = item.get("content")
    if kind == "message" and isinstance(content, str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        shown["content"] = [{"type": part, "text": content}]
    if kind == "message":
        shown.setdefault("status", "completed")
    return shown
