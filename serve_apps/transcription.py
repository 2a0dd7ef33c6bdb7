"""The engine `whisper`: faster-whisper in the replica's own process, behind OpenAI's transcription and translation endpoints.

CTranslate2 computes in threads of its own and lets go of Python meanwhile; at most `max_num_seqs` files at once, the others wait.
A caller that leaves ends its transcription at the next segment. What it does not know: tokens, phases, where the model comes from.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec
from faster_whisper import WhisperModel
from faster_whisper.transcribe import Segment
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from foundry.codecs import multipart, subtitles
from foundry.codecs.form_fields import form_flag, form_model
from foundry.codecs.multipart import Form
from foundry.engines import EngineConfig
from foundry.errors import InvalidParameter
from serve_apps import sound
from serve_apps.engine_http import ModelService

if TYPE_CHECKING:
    from serve_apps.engine import EngineServer

_FORMATS = frozenset({"json", "verbose_json", *subtitles.TYPES})
_GRANULARITIES = "timestamp_granularities[]"
_FIELDS = frozenset(
    {
        "file",
        "model",
        "language",
        "prompt",
        "response_format",
        "temperature",
        _GRANULARITIES,
        "stream",
        "user",
    }
)
_TRANSLATION_FIELDS = _FIELDS - {"language", _GRANULARITIES}
_GATEWAYS = frozenset({"stream_include_usage", "stream_continuous_usage_stats"})
"""What the gateway asks of vLLM; usage is always told here."""
_HOTTEST = 1.0


class Wish(msgspec.Struct, frozen=True):
    """What one caller asked for."""

    form: Form
    task: str
    """Whisper's: "transcribe" or "translate"."""
    response_format: str
    stream: bool
    words: bool
    """Times of words besides those of segments."""
    segments: bool
    options: dict[str, Any]  # Any: arguments of WhisperModel.transcribe, each of its own type


class Heard(msgspec.Struct):
    """One finished transcript."""

    segments: list[Segment]
    language: str
    duration_s: float

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(segment.text for segment in self.segments).strip()

    def usage(self) -> dict[str, str | float]:
        """OpenAI's usage by time."""
        return {"type": "duration", "seconds": round(self.duration_s, 3)}


class WhisperEngine(ModelService):
    """One loaded model. streams: how many files at once."""

    def __init__(
        self, name: str, model: WhisperModel, *, streams: int, arguments: dict[str, Any]
    ) -> None:  # Any: as in Wish
        super().__init__(name)
        self._model, self._arguments = model, arguments
        self._room = asyncio.Semaphore(streams)

    async def check_health(self) -> None:
        """Nothing can die by itself: the model lives in this process."""

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """The HTTP service."""
        return self.app(
            {"/v1/audio/transcriptions": self._transcribe, "/v1/audio/translations": self._translate}
        )

    async def stop(self) -> None:
        """The model goes with the process."""

    async def _transcribe(self, request: Request) -> Response:
        return await self._serve(request, "transcribe", _FIELDS)

    async def _translate(self, request: Request) -> Response:
        if not self._model.model.is_multilingual:
            raise InvalidParameter(f"'{self.name}' knows only English and cannot translate", param="model")
        return await self._serve(request, "translate", _TRANSLATION_FIELDS)

    async def _serve(self, request: Request, task: str, known: frozenset[str]) -> Response:
        form = multipart.parse(await request.body(), request.headers.get("content-type", ""))
        wish = self._read(form, task, known)
        file = form.require_file("file")
        samples = await asyncio.to_thread(sound.decode, form.body[file.start : file.end])
        heard = Heard([], "", samples.size / sound.WHISPER_RATE_HZ)
        run = self._run(samples, wish, heard)
        if wish.stream:
            return StreamingResponse(_events(run, heard), media_type="text/event-stream")
        async with aclosing(run):
            async for _ in run:
                pass
        return _answer(wish, heard)

    def _read(self, form: Form, task: str, known: frozenset[str]) -> Wish:
        self.require_model(form_model(form))
        self.refuse_unknown((part.name for part in form.parts if part.name not in _GATEWAYS), known)
        response_format = form.text("response_format") or "json"
        if response_format not in _FORMATS:
            raise InvalidParameter(
                f"response_format '{response_format}' is not one of {', '.join(sorted(_FORMATS))}",
                param="response_format",
            )
        times = {self._granularity(form, part.start, part.end) for part in form.named(_GRANULARITIES)}
        if times and response_format != "verbose_json":
            raise InvalidParameter(
                f"{_GRANULARITIES} needs response_format verbose_json", param=_GRANULARITIES
            )
        language = form.text("language") or None
        if language is not None and language not in self._model.supported_languages:
            raise InvalidParameter(
                f"'{self.name}' does not know the language '{language}': {', '.join(self._model.supported_languages)}",
                param="language",
            )
        options: dict[str, Any] = {  # Any: as in Wish
            **self._arguments,
            "task": task,
            "language": language,
            "initial_prompt": form.text("prompt") or None,
            "word_timestamps": "word" in times,
        }
        heat = _temperature(form)
        if heat:  # 0 is Whisper's own ladder: cold first, hotter while the result looks wrong
            options["temperature"] = heat
        return Wish(
            form, task, response_format, form_flag(form, "stream"), words="word" in times,
            segments=not times or "segment" in times, options=options,
        )  # fmt: skip

    @staticmethod
    def _granularity(form: Form, start: int, end: int) -> str:
        value = form.body[start:end].decode(errors="replace")
        if value not in {"word", "segment"}:
            raise InvalidParameter(
                f"{_GRANULARITIES} is 'word' or 'segment', not '{value[:40]}'", param=_GRANULARITIES
            )
        return value

    async def _run(
        self, samples: Any, wish: Wish, heard: Heard
    ) -> AsyncGenerator[Segment]:  # Any: numpy's array
        """Segments as they are heard, also kept in `heard`."""
        stop = threading.Event()

        def start() -> Iterator[Segment]:
            segments, info = self._model.transcribe(samples, **wish.options)
            heard.language = info.language
            return iter(segments)

        async with self._room:
            try:
                segments = await asyncio.to_thread(start)
                while (segment := await asyncio.to_thread(_next(segments, stop))) is not None:
                    heard.segments.append(segment)
                    yield segment
            finally:
                stop.set()


def _next(segments: Iterator[Segment], stop: threading.Event) -> Callable[[], Segment | None]:
    return lambda: None if stop.is_set() else next(segments, None)


def _temperature(form: Form) -> float:
    text = form.text("temperature") or "0"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _HOTTEST:
        raise InvalidParameter(
            f"'temperature' must lie between 0 and 1, not '{text[:40]}'", param="temperature"
        )
    return value


def _answer(wish: Wish, heard: Heard) -> Response:
    match wish.response_format:
        case "text":
            return Response(heard.text + "\n", media_type=subtitles.TYPES["text"])
        case "srt":
            return Response(subtitles.srt(heard.segments), media_type=subtitles.TYPES["srt"])
        case "vtt":
            return Response(subtitles.vtt(heard.segments), media_type=subtitles.TYPES["vtt"])
        case "verbose_json":
            return JSONResponse(_verbose(wish, heard))
        case _:
            return JSONResponse({"text": heard.text, "usage": heard.usage()})


def _verbose(wish: Wish, heard: Heard) -> dict[str, object]:
    full: dict[str, object] = {
        "task": wish.task,
        "language": heard.language,
        "duration": round(heard.duration_s, 3),
        "text": heard.text,
        "usage": heard.usage(),
    }
    if wish.segments:
        names = (
            "id",
            "seek",
            "start",
            "end",
            "text",
            "tokens",
            "temperature",
            "avg_logprob",
            "compression_ratio",
            "no_speech_prob",
        )
        full["segments"] = [{name: getattr(one, name) for name in names} for one in heard.segments]
    if wish.words:
        words = [word for one in heard.segments for word in one.words or ()]
        full["words"] = [
            {
                "word": word.word.strip(),
                "start": round(float(word.start), 3),
                "end": round(float(word.end), 3),
            }
            for word in words
        ]
    return full


async def _events(run: AsyncGenerator[Segment], heard: Heard) -> AsyncGenerator[bytes]:
    async with aclosing(run):
        async for segment in run:
            delta = segment.text if len(heard.segments) > 1 else segment.text.lstrip()
            yield _event({"type": "transcript.text.delta", "delta": delta})
        yield _event({"type": "transcript.text.done", "text": heard.text, "usage": heard.usage()})


def _event(content: dict[str, object]) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


async def start(config: EngineConfig) -> EngineServer:
    """A loaded model. Raises RuntimeError or ValueError with CTranslate2's words when it cannot be loaded."""
    loading, arguments = config.llm_config["model_loading_config"], dict(config.llm_config["engine_kwargs"])
    streams: int = arguments.pop("streams")
    compute_type: str = arguments.pop("compute_type")

    def load() -> WhisperModel:
        return WhisperModel(
            loading["model_source"],
            device="cuda" if config.device == "gpu" else "cpu",
            compute_type="float32" if (compute_type, config.device) == ("default", "cpu") else compute_type,
            cpu_threads=config.llm_config["threads"],
            num_workers=streams,
            local_files_only=True,
        )

    return WhisperEngine(
        loading["model_id"], await asyncio.to_thread(load), streams=streams, arguments=arguments
    )
