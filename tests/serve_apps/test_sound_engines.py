"""The engines whisper and piper for real, without Ray: spoken, heard, refused, broken and left alone."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tempfile
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import pytest_asyncio
from starlette.types import ASGIApp

from foundry.catalog import resolve
from foundry.engines import render
from foundry.engines.defaults import SPEECH, TRANSCRIPTION
from foundry.errors import ProcessError
from foundry.types.deployment import DeploymentSpec
from serve_apps import speech, transcription
from serve_apps.engine_edge import warm_up
from serve_apps.voice import Manner, Voice
from tests.support.asgi import serve_asgi
from tests.support.forms import silence

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
SENTENCE = "The quick brown fox jumps over the lazy dog."
MODEL = {"model": TRANSCRIPTION.served_model_name}


def _voice_file() -> Path:
    return next(Path(_folder(SPEECH)).glob("*.onnx"))


def _folder(spec: DeploymentSpec) -> str:
    home = Path(tempfile.gettempdir()) / f"foundry-test-models-{os.getuid()}"
    return str(resolve(spec.model, home).path)


async def _started(spec: DeploymentSpec, module: Any) -> tuple[Any, ASGIApp]:
    config = render(spec)
    config.llm_config["model_loading_config"]["model_source"] = await asyncio.to_thread(_folder, spec)
    server = await module.start(config)
    app = await server.__serve_build_asgi_app__()
    await warm_up(app, spec)
    return server, app


@pytest_asyncio.fixture(scope="module")
async def ears() -> AsyncIterator[httpx.AsyncClient]:
    _, app = await _started(TRANSCRIPTION, transcription)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://ears", timeout=120
    ) as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def piper() -> AsyncIterator[tuple[Any, ASGIApp]]:
    server, app = await _started(SPEECH, speech)
    yield server, app
    await server.stop()


@pytest_asyncio.fixture(scope="module")
async def voice(piper: tuple[Any, ASGIApp]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(piper[1]), base_url="http://voice", timeout=120
    ) as client:
        yield client


async def _say(piper_client: httpx.AsyncClient, /, **fields: Any) -> httpx.Response:
    return await piper_client.post(
        "/v1/audio/speech", json={"model": SPEECH.served_model_name, "input": SENTENCE, **fields}
    )


@pytest_asyncio.fixture(scope="module")
async def said(voice: httpx.AsyncClient) -> bytes:
    return (await _say(voice, response_format="wav")).content


async def _hear(ears: httpx.AsyncClient, sound: bytes, **fields: Any) -> httpx.Response:
    return await ears.post("/v1/audio/transcriptions", data={**MODEL, **fields}, files={"file": ("a", sound)})


@pytest.mark.parametrize(
    ("made_as", "content_type", "head"),
    [("mp3", "audio/mpeg", b"ID3"), ("opus", "audio/ogg", b"OggS"), ("flac", "audio/flac", b"fLaC"),
     ("aac", "audio/aac", b"\xff\xf1"), ("wav", "audio/wav", b"RIFF")],
)  # fmt: skip
async def test_every_format_is_what_it_says(
    ears: httpx.AsyncClient, voice: httpx.AsyncClient, made_as: str, content_type: str, head: bytes
) -> None:
    answer = await _say(voice, response_format=made_as, voice="joe")
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    assert answer.content.startswith(head)
    heard = (await _hear(ears, answer.content)).json()
    assert "brown fox" in heard["text"]
    assert heard["usage"]["type"] == "duration"
    assert 1.5 < heard["usage"]["seconds"] < 5


async def test_pcm_is_openais_and_speed_is_speed(voice: httpx.AsyncClient) -> None:
    seconds = {
        speed: len((await _say(voice, response_format="pcm", speed=speed)).content) / 48_000
        for speed in (0.5, 1, 2)
    }
    assert seconds[0.5] > 1.5 * seconds[1] > 2 * seconds[2]


async def test_sound_goes_out_sentence_by_sentence(piper: tuple[Any, ASGIApp]) -> None:
    text = " ".join([SENTENCE] * 6)
    asked = {"model": SPEECH.served_model_name, "input": text, "response_format": "pcm"}
    async with serve_asgi(piper[1]) as url, httpx.AsyncClient(timeout=120) as client:
        loop = asyncio.get_running_loop()
        begun, times = loop.time(), list[float]()
        async with client.stream("POST", f"{url}/v1/audio/speech", json=asked) as answer:
            async for _ in answer.aiter_raw():
                times.append(loop.time() - begun)
    assert times[0] < times[-1] / 2


async def test_speech_as_events(voice: httpx.AsyncClient) -> None:
    answer = await _say(voice, stream_format="sse", response_format="flac")
    assert answer.headers["content-type"].startswith("text/event-stream")
    last = json.loads(answer.text.strip().rpartition("data: ")[2])
    assert last == {"type": "speech.audio.done", "usage": {"type": "characters", "characters": len(SENTENCE)}}


async def test_the_voices_are_listed(voice: httpx.AsyncClient) -> None:
    listed = (await voice.get("/v1/audio/voices")).json()["data"]
    assert [one["id"] for one in listed] == ["default", "en_US-joe-medium", "joe"]
    assert (await voice.get("/v1/models")).json()["data"][0]["id"] == SPEECH.served_model_name


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"voice": "alloy"}, "voice", "it has default, en_US-joe-medium, joe"),
        ({"response_format": "midi"}, "response_format", "it has mp3"),
        ({"instructions": "cheerful"}, "instructions", "'piper-joe' has"),
        ({"speed": 9}, "speed", "between 0.25 and 4"),
        ({"input": "x" * 5000}, "input", "it has 5000"),
        ({"input": " "}, "input", "1 to 4096"),
        ({"input": 7}, None, "Expected `str`"),
        ({"model": "tts-1"}, "model", "serves 'piper-joe'"),
    ],
)
async def test_what_piper_has_not_is_named(
    voice: httpx.AsyncClient, fields: dict[str, Any], param: str | None, words: str
) -> None:
    answer = await _say(voice, **fields)
    assert answer.status_code in {400, 404}
    error = answer.json()["error"]
    assert error["param"] == param
    assert words in error["message"]


async def test_a_caller_who_leaves_leaves_the_voice_to_others(piper: tuple[Any, ASGIApp]) -> None:
    spoken = piper[0]._voice.speak(" ".join([SENTENCE] * 40), Manner())
    assert await anext(spoken)
    await spoken.aclose()
    async with asyncio.timeout(30):
        assert [len(piece) > 0 async for piece in piper[0]._voice.speak("Hello.", Manner())] == [True]
    assert not piper[0]._voice._listeners


async def test_a_dead_voice_is_noticed() -> None:
    voice = await Voice.start(await asyncio.to_thread(_voice_file), 1)
    spoken = voice.speak(" ".join([SENTENCE] * 40), Manner())
    assert await anext(spoken)
    psutil.Process(voice.pid).kill()
    with pytest.raises(ProcessError, match="the speaking process ended"):
        async for _ in spoken:
            pass
    with pytest.raises(ProcessError, match="ended with status -9"):
        voice.require_alive()
    await voice.stop()


async def test_a_voice_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    (tmp_path / "x.onnx.json").write_text("{}")
    with pytest.raises(ProcessError, match="did not come up"):
        await Voice.start(tmp_path / "x.onnx", 1)


@pytest.mark.parametrize(
    ("wanted", "begins"), [("text", "The quick"), ("srt", "1\n00:00:00,"), ("vtt", "WEBVTT\n\n00:00:00.")]
)
async def test_transcripts_as_text(ears: httpx.AsyncClient, said: bytes, wanted: str, begins: str) -> None:
    answer = await _hear(ears, said, response_format=wanted)
    assert answer.headers["content-type"].startswith("text/")
    assert answer.text.startswith(begins)


async def test_times_of_words_and_segments(ears: httpx.AsyncClient, said: bytes) -> None:
    verbose = {"response_format": "verbose_json"}
    answer = (await _hear(ears, said, **verbose)).json()
    assert answer["segments"][0]["start"] == 0
    assert "words" not in answer
    both = {
        **verbose,
        "timestamp_granularities[]": ["word", "segment"],
        "language": "en",
        "prompt": "A fox.",
        "temperature": "0.2",
    }
    answer = (await _hear(ears, said, **both)).json()
    assert len(answer["words"]) == len(SENTENCE.split())
    assert answer["segments"][0]["temperature"] == 0.2
    assert answer["words"][0]["start"] <= answer["words"][0]["end"] <= answer["words"][1]["end"]


async def test_a_transcription_as_events(ears: httpx.AsyncClient, said: bytes) -> None:
    answer = await _hear(ears, said, stream="true", stream_include_usage="true")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    assert [event["type"] for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert events[0]["delta"] == events[1]["text"]
    assert events[1]["usage"]["seconds"] > 1


async def test_silence_is_no_error(ears: httpx.AsyncClient) -> None:
    answer = (await _hear(ears, silence(1.5))).json()
    assert answer["usage"] == {"type": "duration", "seconds": 1.5}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"language": "de"}, "language", "does not know the language 'de'"),
        ({"include[]": "logprobs"}, "include[]", "'whisper-tiny-en' has"),
        ({"temperature": "hot"}, "temperature", "between 0 and 1"),
        ({"response_format": "pdf"}, "response_format", "not one of json"),
        (
            {"timestamp_granularities[]": "word"},
            "timestamp_granularities[]",
            "needs response_format verbose_json",
        ),
        (
            {"timestamp_granularities[]": "line", "response_format": "verbose_json"},
            "timestamp_granularities[]",
            "not 'line'",
        ),
        ({"model": "whisper-1"}, "model", "serves 'whisper-tiny-en'"),
    ],
)
async def test_what_whisper_has_not_is_named(
    ears: httpx.AsyncClient, said: bytes, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = await _hear(ears, said, **fields)
    assert answer.status_code in {400, 404}
    assert answer.json()["error"]["param"] == param
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("sound", [b"not sound", b"RIFF", silence(0), b"\x00" * 5000])
async def test_what_is_no_sound_is_a_400(ears: httpx.AsyncClient, sound: bytes) -> None:
    answer = await _hear(ears, sound)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


async def test_an_english_model_cannot_translate(ears: httpx.AsyncClient, said: bytes) -> None:
    answer = await ears.post("/v1/audio/translations", data=MODEL, files={"file": ("a", said)})
    assert answer.status_code == 400
    assert "knows only English" in answer.text


async def test_the_wav_opens_in_the_standard_library(said: bytes) -> None:
    with wave.open(io.BytesIO(said)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
        assert len(file.readframes(10**9)) > 22_050


async def test_the_official_client_speaks(piper: tuple[Any, ASGIApp]) -> None:
    async with (
        serve_asgi(piper[1]) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
    ):
        answer = await client.audio.speech.create(model=SPEECH.served_model_name, input="Hello.", voice="joe")
        assert answer.content.startswith(b"ID3")
