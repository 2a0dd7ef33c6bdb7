"""Responses that run in the background: a held task in the replica that was asked, which keeps its state in the store.

Any replica can tell how one stands and can cancel it: by an object that the task looks for. What it does not know: how a target
is asked (`gateway/inner.py`).
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from foundry.codecs.responses_codec import RESPONSES
from foundry.codecs.responses_object import response as response_object
from foundry.errors import FoundryError, InvalidParameter, ObjectStoreUnavailable, QueueFull
from foundry.gateway.exchange import Exchange
from foundry.gateway.inner import Inner, InnerAnswer
from foundry.gateway.stateful.responses.store import Responses, ended, failure, view
from foundry.gateway.stateful.responses.turns import Turn
from foundry.types.responses import StoredResponse

log = structlog.get_logger()

_LOOK_S = 1.0
_BEAT_S = 15.0
_LAST_TRIES = 30
"""Times that the end of a response is written again, a second apart, while the store is away."""
_OK = 200
_encoder = msgspec.json.Encoder()


class _Told(msgspec.Struct):
    message: str = "no reason given"


class _Refused(msgspec.Struct):
    error: _Told = msgspec.field(default_factory=_Told)


_refused = msgspec.json.Decoder(_Refused)


class Background:
    """One per gateway replica; at most `most` responses at a time."""

    def __init__(self, responses: Responses, inner: Inner, *, most: int) -> None:
        self._responses = responses
        self._inner = inner
        self._most = most
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pokes: dict[str, asyncio.Event] = {}
        self._stopping = False

    async def start(self, exchange: Exchange, turn: Turn, fields: dict[str, msgspec.Raw]) -> bytes:
        """Begin; the response object as it stands. `fields` are the request's own. Raises QueueFull, InvalidParameter."""
        if turn.call.stream:
            raise InvalidParameter(
                "'stream' cannot be combined with 'background': ask GET /v1/responses/{id}", param="stream"
            )
        if not turn.stores:
            raise InvalidParameter("'background' needs 'store'", param="store")
        if len(self._tasks) >= self._most or self._stopping:
            raise QueueFull(f"{len(self._tasks)} responses run in the background already", retry_after_s=5.0)
        assert exchange.key is not None  # noqa: S101  begun after authorisation
        response_id, now = turn.call.answer_id, int(time.time())
        queued = _encoder.encode(response_object(turn.call, response_id, now, status="queued"))
        stored = turn.stored(queued, self._responses.retention_s)
        stored = msgspec.structs.replace(stored, background=True, beaten_at=time.time())
        await self._responses.put(turn.project_id, stored)
        body = _encoder.encode(fields)
        running = self._run(turn.project_id, exchange.key.key_hash, exchange.request_id, stored, body)
        task = self._tasks[response_id] = asyncio.create_task(running, name=response_id)
        self._pokes[response_id] = asyncio.Event()
        task.add_done_callback(lambda _: self._forget(response_id))
        return queued

    def poke(self, response_id: str) -> None:
        """Its state in the store has changed: look now, if it runs here."""
        if response_id in self._pokes:
            self._pokes[response_id].set()

    async def aclose(self) -> None:
        """End what runs; it is told as failed."""
        self._stopping = True
        for poke in list(self._pokes.values()):
            poke.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _forget(self, response_id: str) -> None:
        self._tasks.pop(response_id, None)
        self._pokes.pop(response_id, None)

    async def _run(
        self, project_id: str, key_hash: str, request_id: str, stored: StoredResponse, body: bytes
    ) -> None:
        asking = asyncio.create_task(
            self._inner.ask(
                RESPONSES, body, key_hash=key_hash, request_id=f"{request_id}-run"[:128], answer_id=stored.id
            )
        )
        try:
            end = await self._watch(project_id, stored, asking)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await self._keep(project_id, end)

    async def _watch(
        self, project_id: str, stored: StoredResponse, asking: asyncio.Task[InnerAnswer]
    ) -> StoredResponse:
        """How it ended."""
        poke, next_beat = self._pokes[stored.id], 0.0
        while not self._stopping:
            try:
                if await self._responses.is_cancelled(project_id, stored.id):
                    return ended(stored, "cancelled")
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + _BEAT_S
                    running = ended(stored, "in_progress")
                    await self._responses.put(
                        project_id, msgspec.structs.replace(running, beaten_at=time.time())
                    )
            except ObjectStoreUnavailable as error:
                log.warning("response_beat_failed", response_id=stored.id, reason=error.message)
            poked = asyncio.create_task(poke.wait())
            await asyncio.wait([asking, poked], timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            poked.cancel()
            poke.clear()
            if asking.done():
                return _end(stored, asking)
        return ended(stored, "failed", error=failure("the gateway was stopped while this response ran"))

    async def _keep(self, project_id: str, end: StoredResponse) -> None:
        for _ in range(_LAST_TRIES):
            try:
                await self._responses.put(project_id, end)
            except ObjectStoreUnavailable as error:
                log.warning("response_end_waits", response_id=end.id, reason=error.message)
                await asyncio.sleep(_LOOK_S)
            else:
                return


def _end(stored: StoredResponse, asking: asyncio.Task[InnerAnswer]) -> StoredResponse:
    try:
        answer = asking.result()
    except FoundryError as error:
        return ended(stored, "failed", error=failure(error.message))
    if answer.status != _OK:
        return ended(stored, "failed", error=failure(_words(answer.body)))
    status = view.decode(answer.body).status
    return msgspec.structs.replace(stored, status=status, response=msgspec.Raw(answer.body))


def _words(body: bytes) -> str:
    try:
        return _refused.decode(body).error.message
    except msgspec.DecodeError:
        return body[:500].decode(errors="replace")
