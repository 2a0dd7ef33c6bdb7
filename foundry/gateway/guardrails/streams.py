"""A stream passes through here after its meter: text is held back until what it could be a part of has been seen.

Of every channel the last `window_chars` characters are held back; a finding that is no longer than that is seen as a whole
before any of it goes out, however it was cut into chunks. Where a profile guards only whole answers, the stream is held back
to its end. The order of events never changes, and the meter has counted what was generated whatever happens to it here.
What it does not know: guards and actions (it is given functions), protocols (`events.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from foundry.gateway.guardrails import texts
from foundry.gateway.guardrails.base import Place, Said
from foundry.gateway.guardrails.engine import Cut
from foundry.gateway.guardrails.events import Channel, Event, Piece, read

Judge = Callable[[list[Said]], Awaitable[list[Cut]]]
"""Texts to what is to be redacted; raises when they must not go out."""


_MOST_WINDOWS = 20
"""A finding that reaches the end of what came so far is waited for, up to this many windows; then what is there of it goes."""


class _Held:
    """One channel: what went out lately (context for the guards), and the pieces that are held back."""

    __slots__ = ("closed", "context", "free", "judged", "pieces", "size")

    def __init__(self) -> None:
        self.context = ""
        self.pieces: deque[Piece] = deque()
        self.size = 0
        """Characters held back."""
        self.judged = 0
        """Of them, seen by the guards at the last look."""
        self.free = 0
        """Of them, at the front, may go out."""
        self.closed = False

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.size += len(piece.text)

    def text(self) -> str:
        return "".join([piece.text for piece in self.pieces])

    def let_out(self, keep: int) -> Piece:
        """The foremost piece goes out."""
        piece = self.pieces.popleft()
        size = len(piece.text)
        self.size -= size
        self.judged -= min(size, self.judged)
        self.free -= size
        self.context = (self.context + piece.text)[-keep:]
        return piece

    def cut(self, spans: list[tuple[int, int, str]]) -> None:
        """Put labels in the place of spans (sorted, without overlaps, in characters of what is held back)."""
        at = 0
        for piece in self.pieces:
            end = at + len(piece.text)
            piece.text = _without(
                piece.text, [(s - at, e - at, label) for s, e, label in spans if s < end and e > at]
            )
            at = end
        self.size = sum(len(piece.text) for piece in self.pieces)


class Passage(Protocol):
    """What a stream passes through."""

    async def feed(self, data: bytes) -> bytes:
        """Whole events from the meter to what may go out now."""
        ...

    async def finish(self) -> bytes:
        """The stream is whole: the rest of it."""
        ...


class _Unguarded:
    async def feed(self, data: bytes) -> bytes:
        return data

    async def finish(self) -> bytes:
        return b""


UNGUARDED: Passage = _Unguarded()
"""Everything passes as it comes."""


class StreamGuard:
    """One stream's. `feed` what the meter gives; `finish` before the tail.

    window: judges the moving window. whole: judges whole texts, so everything is held back to the end.
    stride_chars: new characters between two looks; 0 looks at every feed.
    """

    def __init__(
        self, *, window: Judge | None, whole: Judge | None, window_chars: int, stride_chars: int
    ) -> None:
        self._judges = tuple(judge for judge in (window, whole) if judge is not None)
        self._window = window
        self._holds_all = whole is not None
        self._keep = window_chars
        self._stride = stride_chars
        self._queue: deque[Event] = deque()
        self._held: dict[Channel, _Held] = {}
        self._tells_whole = False
        self._waits = False
        """The foremost event may not go before the next look."""

    async def feed(self, data: bytes) -> bytes:
        """Whole events from the meter to what may go out now. Raises GuardrailBlocked, GuardrailUnavailable."""
        if not data:
            return b""
        for raw in data.split(b"\n\n"):
            if raw:
                self._take(read(raw + b"\n\n"))
        if self._holds_all:
            return b""
        return await self._pass_on()

    async def finish(self) -> bytes:
        """The stream is whole: the rest of it. Raises as `feed`."""
        for held in self._held.values():
            held.closed = True
        return await self._pass_on()

    def _take(self, event: Event) -> None:
        self._queue.append(event)
        if event.whole:
            self._tells_whole = True
        for piece in event.pieces:
            held = self._held.get(piece.channel)
            if held is None:
                held = self._held[piece.channel] = _Held()
            held.add(piece)
        if event.closes or event.closes_all_of is not None:
            for channel, held in self._held.items():
                if channel in event.closes or channel[1] == event.closes_all_of:
                    held.closed = True

    async def _pass_on(self) -> bytes:
        due = [channel for channel, held in self._held.items() if self._due(held)]
        if due:
            await self._look(due)
        elif self._waits:
            return b""  # nothing was looked at, so nothing more may go
        if self._tells_whole:
            self._tells_whole = False
            for event in self._queue:
                if event.whole:
                    await self._judge_whole(event)
        out: list[bytes] = []
        while self._queue and self._may_go(self._queue[0]):
            out.append(self._let_out(self._queue.popleft()))
        self._waits = bool(self._queue)
        return b"".join(out)

    def _due(self, held: _Held) -> bool:
        """Whether a look could let something go that is held back."""
        if held.closed:
            return held.free < held.size
        return held.size > self._keep and held.size - held.judged > self._stride

    async def _look(self, channels: list[Channel]) -> None:
        """Judge these channels, each behind what went out of it lately, and say how much of them may go."""
        helds = [self._held[channel] for channel in channels]
        waits: dict[int, int] = {}
        judges = self._judges if self._holds_all else (self._window,)
        for judge in judges:
            if judge is None:
                continue
            said = [
                Said(held.context + held.text(), channel[0])
                for channel, held in zip(channels, helds, strict=True)
            ]
            for number, spans in _by_text(await judge(said)).items():
                waits[number] = self._apply(helds[number], said[number].text, spans)
        for number, held in enumerate(helds):
            held.judged = held.size
            limit = held.size if held.closed else held.size - self._keep
            held.free = max(0, min(limit, waits.get(number, limit)))

    def _apply(self, held: _Held, text: str, spans: list[tuple[int, int, str]]) -> int:
        """Cut what was found out of what is held back. What may still grow is left for later: returns where it begins."""
        before, cuts, wait = len(held.context), list[tuple[int, int, str]](), len(text)
        for start, end, label in texts.merged(spans):
            if end <= before:
                continue
            if end == len(text) and not held.closed and end - start <= self._keep * _MOST_WINDOWS:
                wait = max(0, start - before)
            else:
                cuts.append((max(0, start - before), end - before, label))
        held.cut(cuts)
        return wait + held.size - (len(text) - before) if wait < len(text) else held.size

    async def _judge_whole(self, event: Event) -> None:
        said, event.whole = event.whole, []
        changed: dict[Place, str] = {}
        for judge in self._judges:
            for number, spans in _by_text(await judge(said)).items():
                one = said[number]
                said[number] = Said(texts.redacted(one.text, spans), one.role, one.place)
                changed[one.place] = said[number].text
        if changed:
            event.rewrite(changed)

    def _may_go(self, event: Event) -> bool:
        pieces = event.pieces
        if len(pieces) < 2:
            return not pieces or len(pieces[0].text) <= self._held[pieces[0].channel].free
        needs: dict[Channel, int] = {}
        for piece in pieces:
            needs[piece.channel] = needs.get(piece.channel, 0) + len(piece.text)
        return all(size <= self._held[channel].free for channel, size in needs.items())

    def _let_out(self, event: Event) -> bytes:
        changed = {
            piece.place: piece.text
            for piece in (self._held[piece.channel].let_out(self._keep) for piece in event.pieces)
            if piece.text is not piece.came
        }
        if changed:
            event.rewrite(changed)
        return event.raw


def _by_text(cuts: list[Cut]) -> dict[int, list[tuple[int, int, str]]]:
    spans: dict[int, list[tuple[int, int, str]]] = {}
    for cut in cuts:
        spans.setdefault(cut.text, []).append((cut.start, cut.end, cut.label))
    return spans


def _without(text: str, spans: list[tuple[int, int, str]]) -> str:
    """The text without these spans; the label stands where one begins, so one that began earlier leaves nothing here."""
    if not spans:
        return text
    parts: list[str] = []
    at = 0
    for start, end, label in spans:
        parts.append(text[at : max(at, start)])
        if start >= 0:
            parts.append(f"<{label}>")
        at = min(end, len(text))
    parts.append(text[at:])
    return "".join(parts)
