"""A voice in a process of its own (`piper_process.py`), from the replica's side: start it, have it speak, notice when it is gone.

What it does not know: HTTP, formats, piper.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import structlog

from foundry.errors import ProcessError
from foundry.settings import environment
from serve_apps.piper_process import END, ERROR, FRAME, READY, SOUND

log = structlog.get_logger(__name__)
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 5.0
_LAST_WORDS = 500


@dataclass(frozen=True)
class Manner:
    """How to say it; None: the voice's own."""

    length_scale: float | None = None
    """Above 1 is slower."""
    noise_scale: float | None = None
    noise_w_scale: float | None = None
    speaker: int | None = None


Frame = tuple[int, bytes]


class Voice:
    """One speaking process; texts are spoken one after the other. Use `start`, not the constructor."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._listeners: dict[int, asyncio.Queue[Frame]] = {}
        self._last_id = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._said = b""
        self.sample_rate_hz = 0
        self.length_scale = 1.0
        self.speakers: dict[str, int] = {}

    @classmethod
    async def start(cls, model: Path, threads: int) -> Voice:
        """A loaded voice. Raises ProcessError with the process's last words when it does not come up."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serve_apps.piper_process", str(model), "--threads", str(threads)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            cwd=Path(__file__).parents[1],  # where `serve_apps` is found, installed or not
            env={name: value for name, value in environment().items() if not name.startswith("RAY_")},
        )
        voice = cls(process)
        voice._tasks.append(asyncio.create_task(voice._hear_complaints()))
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await voice._await_ready()
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            await voice.stop()
            raise ProcessError(f"the speaking process did not come up: {voice._last_words()}") from error
        voice._tasks.append(asyncio.create_task(voice._dispatch()))
        return voice

    def require_alive(self) -> None:
        """Raises ProcessError when the process is gone."""
        if self._process.returncode is not None:
            raise ProcessError(
                f"the speaking process ended with status {self._process.returncode}: {self._last_words()}"
            )

    async def speak(self, text: str, manner: Manner) -> AsyncGenerator[bytes]:
        """16-bit mono samples, sentence by sentence. Raises ProcessError when the process dies or cannot say it."""
        self.require_alive()
        self._last_id += 1
        number, heard = self._last_id, asyncio.Queue[Frame]()
        self._listeners[number] = heard
        kind = SOUND
        try:
            self._tell({"id": number, "text": text, **vars(manner)})
            while True:
                kind, payload = await heard.get()
                if kind == END:
                    return
                if kind == ERROR:
                    raise ProcessError(f"the text could not be spoken: {payload.decode(errors='replace')}")
                yield payload
        finally:
            del self._listeners[number]
            if kind == SOUND and self._process.returncode is None:
                self._tell({"cancel": number})

    async def stop(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tell(self, line: dict[str, object]) -> None:
        assert self._process.stdin is not None  # noqa: S101  it was made with a pipe
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _frame(self) -> tuple[int, int, bytes]:
        assert self._process.stdout is not None  # noqa: S101  it was made with a pipe
        number, kind, size = FRAME.unpack(await self._process.stdout.readexactly(FRAME.size))
        return number, kind, await self._process.stdout.readexactly(size)

    async def _await_ready(self) -> None:
        _, kind, payload = await self._frame()
        if kind != READY:
            raise ProcessError(f"the speaking process began with a frame of kind {kind}")
        told = json.loads(payload)
        self.sample_rate_hz, self.speakers = told["sample_rate_hz"], told["speakers"]
        self.length_scale = told["length_scale"]

    async def _dispatch(self) -> None:
        """Hand every frame to whom it is for; at the end tell all who wait."""
        try:
            while True:
                number, kind, payload = await self._frame()
                listener = self._listeners.get(number)
                if listener is not None:
                    listener.put_nowait((kind, payload))
        except asyncio.IncompleteReadError:
            await self._process.wait()
            log.warning("speaking_process_ended", status=self._process.returncode, said=self._last_words())
            for listener in self._listeners.values():
                listener.put_nowait((ERROR, b"the speaking process ended"))

    async def _hear_complaints(self) -> None:
        assert self._process.stderr is not None  # noqa: S101  it was made with a pipe
        while line := await self._process.stderr.readline():
            self._said = (self._said + line)[-_LAST_WORDS:]

    def _last_words(self) -> str:
        return " ".join(self._said.decode(errors="replace").split()) or "it said nothing"
