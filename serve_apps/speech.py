"""The engine `piper`: OpenAI's speech endpoint, and the list of voices, in front of a voice in a process of its own.

Sound goes out sentence by sentence as it is spoken, in any of OpenAI's formats (made by FFmpeg's encoders in PyAV's wheel), or as
events (`stream_format: "sse"`). What it does not know: tokens, phases, where the voice comes from, piper itself.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from foundry.engines import EngineConfig
from foundry.errors import InvalidParameter, MalformedBody, ProcessError, UnsupportedParameter
from serve_apps.engine_http import ModelService
from serve_apps.sound import FORMATS, Encoder
from serve_apps.voice import Manner, Voice

if TYPE_CHECKING:
    from serve_apps.engine import EngineServer

_FIELDS = frozenset(
    {"model", "input", "voice", "response_format", "speed", "stream_format", "user", "safety_identifier"}
)
_MOST_CHARACTERS = 4096
"""OpenAI's bound."""
_SLOWEST, _FASTEST = 0.25, 4.0
"""OpenAI's bounds of `speed`."""
DEFAULT_VOICE = "default"


class Wish(msgspec.Struct, frozen=True):
    """A request's body."""

    model: str
    input: str
    voice: str = DEFAULT_VOICE
    response_format: str = "mp3"
    speed: float = 1.0
    stream_format: str = "audio"


_wish = msgspec.json.Decoder(Wish)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class PiperEngine(ModelService):
    """One voice. file: the voice's name, e.g. "en_US-joe-medium"."""

    def __init__(self, name: str, voice: Voice, file: str, manner: Manner) -> None:
        super().__init__(name)
        self._voice, self._manner = voice, manner
        short = file.split("-")[1] if file.count("-") > 1 else file
        self._voices: dict[str, int | None] = {DEFAULT_VOICE: None, file: None, short: None, **voice.speakers}

    async def check_health(self) -> None:
        """Raises ProcessError when the speaking process is gone."""
        self._voice.require_alive()

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """The HTTP service."""
        return self.app({"/v1/audio/speech": self._speak}, listed={"/v1/audio/voices": self._list})

    async def stop(self) -> None:
        """End the speaking process."""
        await self._voice.stop()

    async def _list(self, request: Request) -> Response:
        del request
        return JSONResponse(
            {"object": "list", "data": [{"id": name, "object": "voice"} for name in self._voices]}
        )

    async def _speak(self, request: Request) -> Response:
        wish = self._read(await request.body())
        made_as = FORMATS[wish.response_format]
        sound = self._sound(wish)
        first = await anext(
            sound, b""
        )  # what cannot be spoken is an error with a status, not a broken stream
        usage: dict[str, object] = {"type": "characters", "characters": len(wish.input)}
        if wish.stream_format == "sse":
            return StreamingResponse(_events(first, sound, usage), media_type="text/event-stream")
        return StreamingResponse(_joined(first, sound), media_type=made_as.content_type)

    def _read(self, body: bytes) -> Wish:
        try:
            self.refuse_unknown(_members.decode(body), _FIELDS)
            wish = _wish.decode(body)
        except msgspec.ValidationError as error:
            raise InvalidParameter(f"the request cannot be read: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedBody(f"the body is not valid JSON: {error}") from error
        self.require_model(wish.model)
        if not wish.input.strip() or len(wish.input) > _MOST_CHARACTERS:
            raise InvalidParameter(
                f"'input' must have 1 to {_MOST_CHARACTERS} characters, it has {len(wish.input)}",
                param="input",
            )
        if not _SLOWEST <= wish.speed <= _FASTEST:
            raise InvalidParameter(
                f"'speed' must lie between {_SLOWEST} and {_FASTEST}, not {wish.speed:g}", param="speed"
            )
        for name, value, known in (
            ("voice", wish.voice, self._voices),
            ("response_format", wish.response_format, FORMATS),
            ("stream_format", wish.stream_format, ("audio", "sse")),
        ):
            if value not in known:
                raise UnsupportedParameter(
                    f"'{self.name}' has no {name} '{value[:40]}': it has {', '.join(known)}", param=name
                )
        return wish

    async def _sound(self, wish: Wish) -> AsyncGenerator[bytes]:
        base = self._manner
        manner = Manner(
            length_scale=self._voice.length_scale / wish.speed,
            noise_scale=base.noise_scale,
            noise_w_scale=base.noise_w_scale,
            speaker=self._voices[wish.voice],
        )
        encoder = Encoder(FORMATS[wish.response_format], self._voice.sample_rate_hz)
        async with aclosing(self._voice.speak(wish.input, manner)) as spoken:
            async for samples in spoken:
                if made := await asyncio.to_thread(encoder.feed, samples):
                    yield made
        if made := await asyncio.to_thread(encoder.close):
            yield made


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _events(
    first: bytes, rest: AsyncGenerator[bytes], usage: dict[str, object]
) -> AsyncGenerator[bytes]:
    async with aclosing(_joined(first, rest)) as pieces:
        async for piece in pieces:
            yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
        yield _event({"type": "speech.audio.done", "usage": usage})


def _event(content: dict[str, object]) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


async def start(config: EngineConfig) -> EngineServer:
    """A voice that speaks. Raises ProcessError when it cannot be loaded."""
    loading = config.llm_config["model_loading_config"]
    found = await asyncio.to_thread(_voice_file, Path(loading["model_source"]))
    voice = await Voice.start(found, config.llm_config["threads"])
    return PiperEngine(loading["model_id"], voice, found.stem, Manner(**config.llm_config["engine_kwargs"]))


def _voice_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.onnx"))
    if len(found) != 1:
        raise ProcessError(
            f"{folder} must hold one voice (*.onnx), it holds {len(found)}: name another model"
        )
    return found[0]
