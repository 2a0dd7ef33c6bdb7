"""One line of a batch, asked through the lifecycle until it has an answer that another try would not change.

What it does not know: where results are kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import msgspec

from foundry.codecs.base import Codec
from foundry.errors import FoundryError
from foundry.gateway.inner import Inner, InnerAnswer
from foundry.types.batch import BatchLine, LineResult

_LATER = frozenset({429, 503})
"""Not now: tried again until the batch's time is up."""
_AGAIN = frozenset({408, 409, 500, 502, 504})
"""Something broke: tried again a few times."""
_MAX_BROKEN = 4
_FIRST_WAIT_S, _MAX_WAIT_S = 0.5, 60.0
_QUIET_CHECK_S = 0.05
_encoder = msgspec.json.Encoder()
Busy = Callable[[], bool]


class _Answered(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Fault(msgspec.Struct):
    code: str
    message: str


class _Output(msgspec.Struct):
    id: str
    custom_id: str
    response: _Answered | None
    error: _Fault | None


class Asker:
    """Asks lines of all batches of this replica; live requests come first.

    per_route: lines in flight to one route at a time. busy: whether live traffic leaves no room now.
    """

    def __init__(self, inner: Inner, *, per_route: int, busy: Busy) -> None:
        self._inner = inner
        self._per_route = per_route
        self._busy = busy
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def ask(
        self, codec: Codec, batch_id: str, line: BatchLine, key_hash: str, stop: asyncio.Event
    ) -> LineResult | None:
        """The line's result; None when `stop` was set before it had one. A line that waits for its next try leaves its room on
        the route to others, so that one project's limits do not hold up another's batch."""
        request_id = f"{batch_id}-{line.number:06d}"
        broken = tries = 0
        while not stop.is_set():
            tries += 1
            answer = await self._try(codec, batch_id, request_id, line, key_hash, stop)
            if answer is None:
                return None
            broken += answer.status in _AGAIN
            if answer.status not in _LATER and (answer.status not in _AGAIN or broken > _MAX_BROKEN):
                return _result(line, request_id, answer)
            await _pause(stop, _wait_s(tries, answer.retry_after_s))
        return None

    async def _try(
        self,
        codec: Codec,
        batch_id: str,
        request_id: str,
        line: BatchLine,
        key_hash: str,
        stop: asyncio.Event,
    ) -> InnerAnswer | None:
        slot = self._slots.setdefault(line.model, asyncio.Semaphore(self._per_route))
        async with slot:
            while self._busy() and not stop.is_set():
                await _pause(stop, _QUIET_CHECK_S)
            if stop.is_set():
                return None
            try:
                return await self._inner.ask(
                    codec, line.body, key_hash=key_hash, request_id=request_id, batch_id=batch_id
                )
            except FoundryError as error:
                return InnerAnswer.of(error, codec.error_body(error, request_id))


def expired_result(line: BatchLine, batch_id: str) -> LineResult:
    """For a line that was not done in time."""
    fault = _Fault(
        "batch_expired", "This request could not be executed before the completion window expired."
    )
    text = _encoder.encode(_Output(f"{batch_id}-{line.number:06d}", line.custom_id, None, fault))
    return LineResult(number=line.number, succeeded=False, text=msgspec.Raw(text))


def _result(line: BatchLine, request_id: str, answer: InnerAnswer) -> LineResult:
    # A body is one line of JSON in the file: a target that pretty-prints is put on one line.
    body = answer.body if b"\n" not in answer.body and answer.body else _compact(answer.body)
    answered = _Answered(answer.status, request_id, msgspec.Raw(body))
    counts = answer.counts
    return LineResult(
        number=line.number,
        succeeded=200 <= answer.status < 300,
        text=msgspec.Raw(_encoder.encode(_Output(request_id, line.custom_id, answered, None))),
        input_tokens=counts.input_tokens,
        cached_input_tokens=counts.cached_input_tokens,
        output_tokens=counts.output_tokens,
        reasoning_tokens=counts.reasoning_tokens,
    )


def _compact(body: bytes) -> bytes:
    try:
        return msgspec.json.format(body, indent=-1)
    except msgspec.DecodeError:
        return _encoder.encode(body.decode(errors="replace"))


def _wait_s(tries: int, retry_after_s: float | None) -> float:
    """Full jitter over a doubling bound, and never sooner than the answer asked."""
    bound = min(_MAX_WAIT_S, _FIRST_WAIT_S * 2 ** min(tries, 10))
    return (retry_after_s or 0.0) + random.uniform(0, bound)  # noqa: S311  jitter, not a secret


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
