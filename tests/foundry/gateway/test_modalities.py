"""Sound, images and pooling through a real gateway, driven by the official client, before a vendor's recorded answers.

The answers have the shapes of the vendors' API references (OpenAI, Jina, Groq), with values of our own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from foundry.gateway.app import Gateway
from foundry.metrics import segments
from foundry.types.deployment import DeploymentPhase, Task
from foundry.types.money import Price
from foundry.types.snapshot import EngineTarget, ProviderTarget, RouteEntry
from tests.support.asgi import serve_asgi
from tests.support.forms import CONTENT_TYPE, form, silence
from tests.support.instance import Home
from tests.support.media_upstream import MediaUpstream, Recorded

PRICE = Price(
    price_id="media@1", source="test", input_per_mtok_usd=Decimal(5), image_input_per_mtok_usd=Decimal(10),
    audio_input_per_mtok_usd=Decimal(6), output_per_mtok_usd=Decimal(40), per_image_usd=Decimal("0.04"),
    per_audio_second_usd=Decimal("0.0001"), per_mchar_usd=Decimal(15), per_search_usd=Decimal("0.002"),
)  # fmt: skip
DOCUMENTS = ["a", "b"]
IMAGE_USAGE = {
    "input_tokens": 50, "output_tokens": 100, "total_tokens": 150,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}  # fmt: skip
IMAGE_COST = (10 * Decimal(5) + 40 * Decimal(10) + 100 * Decimal(40)) / 1_000_000
PARTIAL = {
    "type": "image_generation.partial_image",
    "b64_json": "QQ==",
    "partial_image_index": 0,
    "created_at": 1,
}
COMPLETED = {"type": "image_generation.completed", "b64_json": "QkI=", "created_at": 1, "usage": IMAGE_USAGE}
TOKENS = {
    "type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 4, "audio_tokens": 10}, "output_tokens": 45,
    "total_tokens": 59,
}  # fmt: skip
TOKENS_COST = (4 * Decimal(5) + 10 * Decimal(6) + 45 * Decimal(40)) / 1_000_000
SPOKEN = {"input_tokens": 3, "output_tokens": 20, "total_tokens": 23}
DELTA = {"type": "transcript.text.delta", "delta": "Imagine"}
SEGMENTS = [{"id": 0, "start": 0.0, "end": 1.5, "text": " Imagine."}]
SOUND = ("a.wav", silence(2))


def whole(body: object, **fields: Any) -> Recorded:
    return Recorded((json.dumps(body).encode(),), **fields)


def stream(*events: object, **fields: Any) -> Recorded:
    lines = tuple(f"data: {json.dumps(event)}\n\n".encode() for event in events)
    return Recorded(lines, "text/event-stream", **fields)


ANSWERS: dict[str, tuple[Task, Recorded]] = {
    "moderate": (Task.MODERATE, whole({"id": "modr-1", "model": "omni", "results": [{"flagged": True, "categories": {}}]})),
    "jina": (Task.RERANK, whole({"usage": {"total_tokens": 15}, "results": [{"index": 1, "relevance_score": 0.9}]})),
    "units": (Task.RERANK, whole({"id": "1", "results": [], "meta": {"billed_units": {"search_units": 1}}})),
    "classes": (Task.CLASSIFY, whole({"data": [{"index": 0, "label": "ok"}], "usage": {"prompt_tokens": 7, "total_tokens": 7}})),
    "whisper-1": (Task.TRANSCRIBE, whole({"text": "Imagine.", "usage": {"type": "duration", "seconds": 9}})),
    "verbose": (Task.TRANSCRIBE, whole({"task": "translate", "text": "Imagine.", "duration": 8.47, "segments": SEGMENTS})),
    "gpt-transcribe": (Task.TRANSCRIBE, stream(DELTA, {"type": "transcript.text.done", "text": "Imagine", "usage": TOKENS})),
    "silent-transcript": (Task.TRANSCRIBE, whole({"text": "Imagine.", "x_groq": {"id": "req_1"}})),
    "broken-transcript": (Task.TRANSCRIBE, stream(DELTA, breaks=True)),
    "tts-1": (Task.SPEAK, Recorded((b"ID3", b"\x00" * 5000, b"end"), "audio/mpeg")),
    "broken-tts": (Task.SPEAK, Recorded((b"ID3", b"\x00" * 5000), "audio/mpeg", breaks=True)),
    "refused-tts": (Task.SPEAK, whole({"error": {"message": "no such voice", "param": "voice"}}, status=400)),
    "sse-tts": (Task.SPEAK, stream({"type": "speech.audio.delta", "audio": "QQ=="}, {"type": "speech.audio.done", "usage": SPOKEN})),
    "dall-e": (Task.IMAGE, whole({"created": 1, "data": [{"url": "https://a"}, {"url": "https://b"}]})),
    "gpt-image": (Task.IMAGE, whole({"created": 1, "data": [{"b64_json": "QQ=="}], "usage": IMAGE_USAGE})),
    "streamed-image": (Task.IMAGE, stream(PARTIAL, COMPLETED)),
    "broken-image": (Task.IMAGE, stream(PARTIAL, {"type": "error", "error": {"message": "no GPU left"}})),
}  # fmt: skip


@dataclass
class Rig:
    """A gateway with one route `public-<name>` per recorded answer."""

    upstream: MediaUpstream
    home: Home
    url: str
    key: str

    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, headers={"authorization": f"Bearer {self.key}"}, timeout=20
        )

    def record(self) -> dict[str, Any]:
        """The one usage record."""
        folder = next((self.home.path / "spool").iterdir())
        lines = [
            line for path in segments.listing(folder) for line in path.read_bytes().splitlines(keepends=True)
        ]
        assert len(lines) == 1
        payload = segments.decode_line(lines[0])
        assert payload is not None
        return json.loads(payload)


def _route(name: str, task: Task, url: str) -> RouteEntry:
    target: ProviderTarget | EngineTarget = ProviderTarget(
        target_id=f"openai/{name}", provider="openai", model=name, base_url=url, price=PRICE
    )
    if task is Task.RERANK:
        target = EngineTarget(
            target_id=f"engine/{name}",
            deployment=name,
            model=name,
            base_url=url,
            phase=DeploymentPhase.READY,
            price=PRICE,
        )
    return RouteEntry(name=f"public-{name}", task=task, targets=(target,), created_at=datetime.now(UTC))


@pytest_asyncio.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor")
    home = Home.make(tmp_path / "home")
    upstream = MediaUpstream({name: answer for name, (_, answer) in ANSWERS.items()})
    await upstream.start()
    key, entry = home.key()
    home.write_snapshot([entry], [_route(name, task, upstream.url) for name, (task, _) in ANSWERS.items()])
    gateway = Gateway(home.settings(), gateway_id="gw-1")
    await gateway.start()
    async with serve_asgi(gateway) as url:
        yield Rig(upstream, home, url, key)
    await gateway.stop()
    await upstream.stop()


def _told(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["protocol"], record["outcome"], record["usage_source"], Decimal(record["cost_usd"])


async def test_moderation_is_free(rig: Rig) -> None:
    async with rig.openai() as client:
        answer = await client.moderations.create(model="public-moderate", input="x")
    assert answer.results[0].flagged
    assert _told(rig.record()) == ("moderations", "completed", "reported", 0)
    assert "price_status" not in rig.record()  # its default is left out: free
    assert rig.upstream.received[0].authorization == "Bearer sk-vendor"


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
async def test_rerank_by_tokens_and_by_search_units(rig: Rig, path: str) -> None:
    async with rig.http() as client:
        answer = await client.post(path, json={"model": "public-jina", "query": "q", "documents": DOCUMENTS})
    assert answer.json()["results"][0]["index"] == 1
    assert rig.upstream.received[0].path == "/v1/rerank"
    assert _told(rig.record()) == ("rerank", "completed", "reported", 15 * Decimal(5) / 1_000_000)


async def test_search_units_have_a_price_of_their_own(rig: Rig) -> None:
    async with rig.http() as client:
        await client.post("/v1/rerank", json={"model": "public-units", "query": "q", "documents": DOCUMENTS})
    record = rig.record()
    assert (record["searches"], Decimal(record["cost_usd"])) == (1, Decimal("0.002"))


async def test_classify_goes_to_vllms_path(rig: Rig) -> None:
    async with rig.http() as client:
        answer = await client.post("/v1/classify", json={"model": "public-classes", "input": "x"})
    assert answer.json()["data"][0]["label"] == "ok"
    assert rig.upstream.received[0].path == "/classify"
    assert rig.record()["input_tokens"] == 7


async def test_a_transcription_by_time(rig: Rig) -> None:
    async with rig.openai() as client:
        answer = await client.audio.transcriptions.create(model="public-whisper-1", file=SOUND)
    assert answer.text == "Imagine."
    assert rig.upstream.received[0].body.count(b"\r\n\r\nwhisper-1\r\n") == 1
    assert SOUND[1] in rig.upstream.received[0].body
    assert rig.record()["audio_ms"] == 9000
    assert _told(rig.record()) == ("transcription", "completed", "reported", Decimal("0.0009"))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("text", "Imagine.\n"), ("srt", "1\n00:00:00,000 --> 00:00:01,500\nImagine.\n\n"),
     ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nImagine.\n\n")],
)  # fmt: skip
async def test_a_transcript_as_text_is_billed_like_any_other(rig: Rig, wanted: Any, expected: str) -> None:
    async with rig.openai() as client:
        answer: Any = await client.audio.transcriptions.create(
            model="public-verbose", file=SOUND, response_format=wanted
        )
    assert answer == expected
    assert rig.record()["audio_ms"] == 8470


async def test_a_translation(rig: Rig) -> None:
    async with rig.http() as client:
        body = form(("model", "public-verbose"), ("file", SOUND))
        answer = await client.post(
            "/v1/audio/translations", content=body, headers={"content-type": CONTENT_TYPE}
        )
    assert answer.json() == {"text": "Imagine.", "usage": {"type": "duration", "seconds": 8.47}}
    assert b"verbose_json" in rig.upstream.received[0].body
    assert _told(rig.record()) == ("translation", "completed", "reported", Decimal("0.000847"))


async def test_a_streamed_transcription_by_tokens(rig: Rig) -> None:
    async with rig.openai() as client:
        events = await client.audio.transcriptions.create(
            model="public-gpt-transcribe", file=SOUND, stream=True
        )
        kinds = [event.type async for event in events]
    assert kinds == ["transcript.text.delta", "transcript.text.done"]
    assert rig.record()["streamed"]
    assert rig.record()["ttft_ms"] is not None
    assert _told(rig.record()) == ("transcription", "completed", "reported", TOKENS_COST)


async def test_a_target_that_tells_nothing_is_billed_by_the_files_length(rig: Rig) -> None:
    async with rig.openai() as client:
        await client.audio.transcriptions.create(model="public-silent-transcript", file=SOUND)
    assert rig.record()["usage_source"] == "estimated"
    assert rig.record()["audio_ms"] == 2001  # its header's 44 bytes too
    assert "input_tokens" not in rig.record()


async def test_a_transcription_that_breaks_off_ends_with_an_error_event(rig: Rig) -> None:
    async with rig.openai() as client:
        events = await client.audio.transcriptions.create(
            model="public-broken-transcript", file=SOUND, stream=True
        )
        with pytest.raises(openai.APIError, match="died while it answered"):
            [event async for event in events]
    assert rig.record()["outcome"] == "failed"
    assert rig.record()["audio_ms"] == 2001


async def test_speech_passes_as_it_is_and_is_billed_by_characters(rig: Rig) -> None:
    async with rig.openai() as client:
        answer = await client.audio.speech.create(model="public-tts-1", input="Grüße!", voice="alloy")
    assert answer.content == b"ID3" + b"\x00" * 5000 + b"end"
    assert answer.response.headers["content-type"] == "audio/mpeg"
    assert rig.record()["characters"] == 6
    assert _told(rig.record()) == ("speech", "completed", "reported", 6 * Decimal(15) / 1_000_000)


async def test_speech_that_breaks_off_breaks_the_connection(rig: Rig) -> None:
    async with rig.openai() as client:
        with pytest.raises((httpx.HTTPError, openai.APIConnectionError)):
            await client.audio.speech.create(model="public-broken-tts", input="Hello", voice="alloy")
    record = rig.record()
    assert (record["outcome"], record["error_code"], record["characters"]) == ("failed", "upstream_broke", 5)


async def test_a_refused_voice_is_told(rig: Rig) -> None:
    async with rig.openai() as client:
        with pytest.raises(openai.BadRequestError, match="no such voice") as caught:
            await client.audio.speech.create(model="public-refused-tts", input="Hello", voice="x")
    assert caught.value.param == "voice"
    assert Decimal(rig.record()["cost_usd"]) == 0


async def test_speech_as_events_is_billed_by_what_the_target_tells(rig: Rig) -> None:
    async with rig.http() as client:
        body = {"model": "public-sse-tts", "input": "Hello", "voice": "x", "stream_format": "sse"}
        answer = await client.post("/v1/audio/speech", json=body)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text.count("data: ") == 2
    assert (rig.record()["output_tokens"], rig.record().get("characters")) == (20, None)


async def test_images_by_the_picture(rig: Rig) -> None:
    async with rig.openai() as client:
        answer = await client.images.generate(model="public-dall-e", prompt="x", n=2)
    assert answer.data is not None
    assert [image.url for image in answer.data] == ["https://a", "https://b"]
    assert _told(rig.record()) == ("image_generation", "completed", "reported", Decimal("0.08"))


async def test_an_edit_by_tokens(rig: Rig) -> None:
    pictures = [("a.png", b"\x89PNG-a"), ("b.png", b"\x89PNG-b")]
    async with rig.openai() as client:
        answer = await client.images.edit(model="public-gpt-image", image=pictures, prompt="x")
    assert answer.usage is not None
    assert all(content in rig.upstream.received[0].body for _, content in pictures)
    assert _told(rig.record()) == ("image_edit", "completed", "reported", IMAGE_COST)


async def test_a_variation(rig: Rig) -> None:
    async with rig.http() as client:
        body = form(("model", "public-dall-e"), ("image", ("a.png", b"\x89PNG")))
        answer = await client.post(
            "/v1/images/variations", content=body, headers={"content-type": CONTENT_TYPE}
        )
    assert len(answer.json()["data"]) == 2
    assert _told(rig.record()) == ("image_variation", "completed", "reported", Decimal("0.08"))


async def test_partial_images(rig: Rig) -> None:
    async with rig.openai() as client:
        events = await client.images.generate(
            model="public-streamed-image", prompt="x", stream=True, partial_images=1
        )
        kinds = [event.type async for event in events]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]
    assert _told(rig.record()) == ("image_generation", "completed", "reported", IMAGE_COST)


async def test_an_error_in_a_stream_of_images_is_told(rig: Rig) -> None:
    async with rig.openai() as client:
        events = await client.images.generate(model="public-broken-image", prompt="x", stream=True)
        with pytest.raises(openai.APIError, match="no GPU left"):
            [event async for event in events]
    assert rig.record()["outcome"] == "failed"


@pytest.mark.parametrize(
    ("path", "content_type", "body", "status", "code"),
    [
        ("/v1/audio/transcriptions", "application/json", b"{}", 415, "unsupported_media_type"),
        ("/v1/audio/transcriptions", "multipart/form-data", b"x", 400, "malformed_body"),
        ("/v1/audio/transcriptions", CONTENT_TYPE, b"x", 400, "malformed_body"),
        ("/v1/audio/translations", CONTENT_TYPE, form(("model", "m")), 400, "invalid_parameter"),
        ("/v1/images/edits", CONTENT_TYPE, form(("model", "m"), ("prompt", "x")), 400, "invalid_parameter"),
        ("/v1/images/generations", CONTENT_TYPE, b"x", 415, "unsupported_media_type"),
        ("/v1/audio/speech", "application/json", b'{"model":"public-tts-1"}', 400, "invalid_parameter"),
        (
            "/v1/audio/speech",
            "application/json",
            b'{"model":"public-dall-e","input":"x"}',
            404,
            "model_not_found",
        ),
    ],
)
async def test_what_cannot_be_read_is_told_and_recorded(
    rig: Rig, path: str, content_type: str, body: bytes, status: int, code: str
) -> None:
    async with rig.http() as client:
        answer = await client.post(path, content=body, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert (rig.record()["outcome"], rig.record()["status"]) == ("rejected", status)
