"""Stored responses by project, and the conversation that leads to one.

What it does not know: how a response is made.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec

from foundry.errors import NotFound, PreviousResponseNotFound
from foundry.gateway.stateful.objects import Objects, Shelf, is_id
from foundry.types.responses import RUNNING, ResponseStatus, ResponseView, StoredResponse

_GONE_S = 90.0
"""A replica that runs a response in the background and has been silent for so long is dead."""
_decoder = msgspec.json.Decoder(StoredResponse)
_encoder = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
view = msgspec.json.Decoder(ResponseView)


class Responses:
    """The responses of all projects. Every call raises ObjectStoreUnavailable when the store is away."""

    def __init__(self, objects: Objects, *, retention_s: float) -> None:
        self._objects = objects
        self.retention_s = retention_s

    def _shelf(self, project_id: str) -> Shelf:
        return self._objects.shelf(project_id, "responses")

    async def put(self, project_id: str, stored: StoredResponse) -> None:
        """Keep one, over what was there under its id."""
        await self._shelf(project_id).put(f"{stored.id}.json", _encoder.encode(stored))

    async def find(self, project_id: str, response_id: str) -> StoredResponse | None:
        """One response; None when it does not exist, is expired, or belongs to another project. One whose replica died while
        it ran has failed."""
        data = await self._shelf(project_id).get(f"{response_id}.json") if is_id(response_id) else None
        return _living(_decoder.decode(data)) if data else None

    async def get(self, project_id: str, response_id: str) -> StoredResponse:
        """One response. Raises NotFound."""
        stored = await self.find(project_id, response_id)
        if stored is None:
            raise NotFound(f"Response with id '{response_id[:128]}' not found.", param="response_id")
        return stored

    async def delete(self, project_id: str, response_id: str) -> None:
        """Forget one."""
        shelf = self._shelf(project_id)
        await shelf.delete(f"{response_id}.json")
        await shelf.delete(f"{response_id}.cancel")

    async def cancel(self, project_id: str, response_id: str) -> None:
        """Ask whoever runs it to stop."""
        await self._shelf(project_id).create(f"{response_id}.cancel", b"")

    async def is_cancelled(self, project_id: str, response_id: str) -> bool:
        """Whether somebody asked."""
        return await self._shelf(project_id).get(f"{response_id}.cancel") is not None

    async def conversation(self, project_id: str, response_id: str) -> list[StoredResponse]:
        """This response and all before it, oldest first. Raises PreviousResponseNotFound naming the one that is missing."""
        last = await self.find(project_id, response_id)
        if last is None:
            raise _missing(response_id)
        names = [f"{ancestor}.json" for ancestor in last.ancestors]
        found: list[StoredResponse] = []
        for ancestor, data in zip(last.ancestors, await self._shelf(project_id).get_all(names), strict=True):
            stored = _living(_decoder.decode(data)) if data else None
            if stored is None:
                raise _missing(ancestor)
            found.append(stored)
        return [*found, last]

    async def sweep(self) -> int:
        """Delete what is past its retention, in all projects; returns how many."""
        swept, now = 0, datetime.now(UTC)
        for project_id in await self._objects.folders("projects"):
            for name, changed in await self._objects.listing(f"projects/{project_id}/responses"):
                if (now - changed).total_seconds() > self.retention_s:
                    await self._objects.delete(name)
                    swept += 1
        return swept


def items_of(stored: StoredResponse) -> list[msgspec.Raw]:
    """What it adds to a conversation: its input, then its output."""
    return [*stored.input, *view.decode(stored.response).output]


def ended(stored: StoredResponse, status: ResponseStatus, **members: object) -> StoredResponse:
    """The same response at its end, with these members of its response object changed."""
    fields = _members.decode(stored.response)
    changes: dict[str, object] = {**fields, "status": status, **members}
    return msgspec.structs.replace(stored, status=status, response=msgspec.Raw(_encoder.encode(changes)))


def failure(message: str) -> dict[str, str]:
    """The member `error` of a response that failed."""
    return {"code": "server_error", "message": message}


def _living(stored: StoredResponse) -> StoredResponse | None:
    now = time.time()
    if stored.expires_at <= now:
        return None
    if stored.status in RUNNING and now - stored.beaten_at > _GONE_S:
        return ended(
            stored, "failed", error=failure("the gateway replica that ran this response is gone: ask again")
        )
    return stored


def _missing(response_id: str) -> PreviousResponseNotFound:
    return PreviousResponseNotFound(
        f"Previous response with id '{response_id[:128]}' not found.", param="previous_response_id"
    )
