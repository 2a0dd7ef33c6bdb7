"""Ears, a voice and similarity through the gateway, with the official client: what is spoken is heard again word for word."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from foundry.client import ControlClient
from foundry.engines.defaults import SPEECH, TRANSCRIPTION
from foundry.local.instance import Instance
from foundry.types.control import EngineTargetSpec
from foundry.types.deployment import DeploymentPhase, DeploymentSpec
from tests.e2e.conftest import EMBED

pytestmark = [pytest.mark.engine, pytest.mark.postgres, pytest.mark.timeout(900)]
SENTENCE = "The quick brown fox jumps over the lazy dog. It was a bright cold day in April."
READY_S = 300.0


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def word_error_rate(said: str, heard: str) -> float:
    """Insertions, deletions and substitutions over the words that were said."""
    wanted, got = _words(said), _words(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1] / len(wanted)


def test_the_error_rate_counts_words() -> None:
    assert word_error_rate("a b c d", "A, b c d.") == 0
    assert word_error_rate("a b c d", "a x c") == 0.5


def _ready(control: ControlClient, spec: DeploymentSpec, url: str, key: str) -> None:
    """Wait until the deployment is ready and the gateway knows it."""
    deadline = time.monotonic() + READY_S
    status = control.deployments.get(spec.name).status
    while status.phase is not DeploymentPhase.READY:
        assert status.phase is not DeploymentPhase.FAILED, status.detail
        assert time.monotonic() < deadline, status
        time.sleep(0.5)  # bounded poll
        status = control.deployments.get(spec.name).status
    asked = {"model": spec.served_model_name, "input": ""}
    while True:  # 400 (no input, no form): the route is there and its target is ready
        answer = httpx.post(f"{url}/audio/speech", json=asked, headers={"authorization": f"Bearer {key}"})
        if answer.status_code in {400, 404} and "does not exist" not in answer.text:
            return
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)  # bounded poll


@pytest.fixture(scope="module")
def sound(platform: Instance, control: ControlClient) -> Iterator[None]:
    """Both engines, deployed the way a user does."""
    for spec in (TRANSCRIPTION, SPEECH):
        control.deployments.put(spec)
        control.routes.put(spec.served_model_name, [EngineTargetSpec(deployment=spec.name)], task=spec.task)
    for spec in (TRANSCRIPTION, SPEECH):
        _ready(control, spec, platform.openai_url, platform.admin_key)
    yield
    for spec in (TRANSCRIPTION, SPEECH):
        control.routes.delete(spec.served_model_name)
        control.deployments.delete(spec.name)


def _record(control: ControlClient, request_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = control.usage(request_id=request_id)
        if rows:
            return dict(rows[0])
        time.sleep(0.2)  # bounded poll
    raise AssertionError(f"no usage record of {request_id}")


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize("made_as", ["wav", "mp3"])
def test_what_is_spoken_is_heard_again(client: openai.OpenAI, control: ControlClient, made_as: Any) -> None:
    speech = client.audio.speech.with_raw_response.create(
        model=SPEECH.served_model_name, input=SENTENCE, voice="joe", response_format=made_as
    )
    spoken = speech.parse().read()
    heard = client.audio.transcriptions.with_raw_response.create(
        model=TRANSCRIPTION.served_model_name, file=(f"a.{made_as}", spoken)
    )
    transcript = heard.parse()
    assert word_error_rate(SENTENCE, transcript.text) < 0.25
    assert transcript.usage is not None
    assert transcript.usage.type == "duration"
    said = _record(control, speech.headers["x-request-id"])
    assert (said["protocol"], said["characters"], said["outcome"]) == ("speech", len(SENTENCE), "completed")
    assert Decimal(str(said["cost_usd"])) == len(SENTENCE) * Decimal("0.50") / 1_000_000
    listened = _record(control, heard.headers["x-request-id"])
    assert listened["audio_ms"] == round(transcript.usage.seconds * 1000)
    assert 4_000 < listened["audio_ms"] < 8_000
    assert listened["usage_source"] == "reported"
    assert Decimal(str(listened["cost_usd"])) == listened["audio_ms"] * Decimal("0.00001") / 1000


@pytest.mark.usefixtures("sound")
def test_formats_words_and_events(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model=SPEECH.served_model_name, input=SENTENCE, voice="joe", response_format="flac", speed=1.2
    ) as answer:
        assert answer.headers["content-type"] == "audio/flac"
        spoken = b"".join(answer.iter_bytes())
    model, file = TRANSCRIPTION.served_model_name, ("a.flac", spoken)
    srt = client.audio.transcriptions.create(model=model, file=file, response_format="srt")
    assert srt.startswith("1\n00:00:0")
    vtt = client.audio.transcriptions.create(model=model, file=file, response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:0")
    assert (
        word_error_rate(
            SENTENCE, client.audio.transcriptions.create(model=model, file=file, response_format="text")
        )
        < 0.25
    )
    verbose = client.audio.transcriptions.create(
        model=model, file=file, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert verbose.words is not None
    assert verbose.words[0].word.lower() == "the"
    assert verbose.words[-1].end <= verbose.duration + 0.1
    events = list(client.audio.transcriptions.create(model=model, file=file, stream=True))
    assert [event.type for event in events[-1:]] == ["transcript.text.done"]
    assert word_error_rate(SENTENCE, getattr(events[-1], "text", "")) < 0.25


@pytest.mark.usefixtures("sound")
def test_what_an_engine_has_not_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="'piper-joe' has no voice 'alloy'"):
        client.audio.speech.create(model=SPEECH.served_model_name, input="Hello.", voice="alloy")
    with pytest.raises(openai.BadRequestError, match="knows only English"):
        client.post(
            "/audio/translations",
            cast_to=object,
            body={"model": TRANSCRIPTION.served_model_name},
            files={"file": ("a.wav", b"RIFF")},
            options={"headers": {"content-type": "multipart/form-data"}},
        )
    with pytest.raises(openai.NotFoundError, match="its task is speak"):
        client.audio.transcriptions.create(model=SPEECH.served_model_name, file=("a.wav", b"RIFF"))


def test_an_embedding_model_ranks_and_scores(client: openai.OpenAI, control: ControlClient) -> None:
    documents = ["Stock prices fell sharply.", "A kitten rests on a rug.", "Paris is in France."]
    ranked: Any = client.post(
        "/rerank",
        cast_to=object,
        body={"model": EMBED, "query": "a cat on a mat", "documents": documents, "top_n": 2},
    )
    assert ranked["results"][0]["index"] == 1
    assert len(ranked["results"]) == 2
    scored = client.with_options(max_retries=0).post(
        "/score",
        cast_to=httpx.Response,
        body={"model": EMBED, "text_1": "a cat on a mat", "text_2": documents},
    )
    body = scored.json()
    scores = [row["score"] for row in body["data"]]
    assert scores[1] == max(scores)
    assert scores[1] == pytest.approx(ranked["results"][0]["relevance_score"], abs=1e-4)
    record = _record(control, scored.headers["x-request-id"])
    assert record["protocol"] == "score"
    assert record["input_tokens"] == body["usage"]["prompt_tokens"] > 0
    assert record["price_status"] == "priced"
