"""Embeddings, moderations, sound and images by the `openai` SDK; rerank, which it has not, by hand.

What it does not know: what should come.
"""

from __future__ import annotations

from typing import Any  # Any: what SDKs parse is asserted on, not relied upon

import httpx2
import openai

from tests.gateway.conformance.cells import Cell
from tests.gateway.conformance.drive import extra
from tests.gateway.conformance.expect_media import SOUND_S, SPOKEN_TEXT
from tests.gateway.conformance.seen import Seen
from tests.support.forms import silence
from tests.support.openai_script import SOUND

_SOUND = ("a.wav", silence(SOUND_S))


async def embeddings(client: openai.AsyncOpenAI, cell: Cell, seen: Seen) -> None:
    found = await client.embeddings.create(
        model=cell.model, input=["a text"], encoding_format="float", extra_headers=extra(cell)
    )
    assert (found.object, [one.embedding for one in found.data]) == ("list", [[0.5, -0.5]])
    usage: Any = found.usage  # some servers tell none
    seen.usage = {"input_tokens": usage.prompt_tokens} if usage is not None and usage.prompt_tokens else None


async def rerank(client: httpx2.AsyncClient, cell: Cell, seen: Seen) -> None:
    body = {"model": cell.model, "query": "q", "documents": ["a text"]}
    answer = await client.post("/v1/rerank", json=body, headers=extra(cell))
    found = answer.json()
    if answer.status_code != 200:
        seen.error_code, seen.error_message = found["error"]["code"], found["error"]["message"]
        return
    assert found["results"] == [{"index": 0, "relevance_score": 0.9}]
    units = (found.get("meta") or {}).get("billed_units")
    if units:
        seen.usage = {"searches": units["search_units"]}
    elif "usage" in found:
        seen.usage = {"input_tokens": found["usage"]["total_tokens"]}


async def moderations(client: openai.AsyncOpenAI, cell: Cell, seen: Seen) -> None:
    found = await client.moderations.create(model=cell.model, input="x", extra_headers=extra(cell))
    assert [one.flagged for one in found.results] == [False]


async def transcription(client: openai.AsyncOpenAI, cell: Cell, seen: Seen) -> None:
    if not cell.stream:
        whole = await client.audio.transcriptions.create(
            model=cell.model, file=_SOUND, extra_headers=extra(cell)
        )
        seen.text, seen.usage = whole.text, _sound_usage(whole.usage)
        return
    stream = await client.audio.transcriptions.create(
        model=cell.model, file=_SOUND, stream=True, extra_headers=extra(cell)
    )
    words = 0
    async for event in stream:
        if event.type == "transcript.text.delta":
            seen.text += event.delta
            words += 1
        elif event.type == "transcript.text.done":
            assert event.text == seen.text
            seen.usage = _sound_usage(event.usage)
        if seen.stops(cell, words):
            break
    await stream.close()


async def speech(client: openai.AsyncOpenAI, cell: Cell, seen: Seen) -> None:
    async with client.audio.speech.with_streaming_response.create(
        model=cell.model, voice="alloy", input=SPOKEN_TEXT, extra_headers=extra(cell)
    ) as answer:
        got = b""
        async for piece in answer.iter_bytes():
            got += piece
            seen.text = f"{_pieces(got)} pieces"
            if seen.stops(cell, _pieces(got)):
                break


def _pieces(got: bytes) -> int:
    """How many whole pieces of the sound have come."""
    return next(n for n in range(len(SOUND), -1, -1) if got.startswith(b"".join(SOUND[:n])))


async def images(client: openai.AsyncOpenAI, cell: Cell, seen: Seen) -> None:
    if not cell.stream:
        whole = await client.images.generate(model=cell.model, prompt="a dot", extra_headers=extra(cell))
        assert [one.b64_json for one in whole.data or ()] == ["QQ=="]
        seen.usage = _image_usage(whole.usage)
        return
    stream = await client.images.generate(
        model=cell.model, prompt="a dot", stream=True, partial_images=3, extra_headers=extra(cell)
    )
    partial = 0
    async for event in stream:
        if event.type == "image_generation.partial_image":
            partial += 1
            seen.text = f"{partial} pieces"
        else:
            seen.usage = _image_usage(event.usage)
        if seen.stops(cell, partial):
            break
    await stream.close()


def _sound_usage(usage: Any) -> dict[str, int] | None:
    if usage is None:
        return None
    if usage.type == "duration":
        return {"audio_ms": round(usage.seconds * 1000)}
    details = getattr(usage, "input_token_details", None)
    sound = (details.audio_tokens or 0) if details else 0
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "audio_input_tokens": sound,
    }


def _image_usage(usage: Any) -> dict[str, int] | None:
    if usage is None:
        return None
    details = usage.input_tokens_details
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "image_input_tokens": (details.image_tokens or 0) if details else 0,
    }
