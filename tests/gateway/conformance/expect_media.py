"""The same for embeddings, rerank, moderations, sound and images.

What it does not know: the product.
"""

from __future__ import annotations

from tests.gateway.conformance.cells import Cell, Protocol
from tests.gateway.conformance.expect import Expected, conversation, ended, failure
from tests.gateway.conformance.money import Counts
from tests.support.openai_script import SECONDS
from tests.support.vendor_script import ALL_KINDS, ONE_KIND, Told

SPOKEN_TEXT = "Say this, and say it well."
SOUND_S, SOUND_HEADER_BYTES, SOUND_BYTES_PER_S = 2, 44, 32_000
"""The file that is transcribed: silence, 16 kHz, 16 bit, mono. Where nobody tells its length, it is taken from the file's size."""
_SOUND_MS = round(1000 * (SOUND_S * SOUND_BYTES_PER_S + SOUND_HEADER_BYTES) / SOUND_BYTES_PER_S)
_CONVERSATIONS: frozenset[Protocol] = frozenset({"chat", "completions", "responses", "messages"})


def expect(cell: Cell) -> Expected:
    """What must come of a cell."""
    if cell.protocol in _CONVERSATIONS:
        return conversation(cell)
    found = failure(cell)
    if found is not None:
        return found
    match cell.protocol:
        case "transcription":
            return _transcription(cell)
        case "images":
            return _images(cell)
        case "speech":  # charged by what is to be spoken
            return ended(cell, "reported", {"characters": len(SPOKEN_TEXT)})
        case "moderations":
            return ended(cell, "reported", {})
        case _:
            return _pooling(cell)


def _pooling(cell: Cell) -> Expected:
    untold = cell.scenario == "no-usage" or (cell.protocol, cell.kind) == ("embeddings", "gemini")
    if untold:
        return ended(cell, "estimated", {}, input_by_bytes=True)
    if cell.wire == "cohere":
        return ended(cell, "reported", {"searches": 1})
    return ended(cell, "reported", {"input_tokens": ALL_KINDS.input})


def _transcription(cell: Cell) -> Expected:
    told = ONE_KIND if cell.scenario == "completed" else ALL_KINDS
    if cell.scenario == "no-usage":
        return ended(cell, "estimated", {"audio_ms": _SOUND_MS})
    if cell.kind == "own" and cell.stream:  # vLLM: tokens of text, told in every chunk
        output = told.output if cell.scenario in ("completed", "kinds", "last") else cell.words
        return ended(cell, "reported", {"input_tokens": told.input, "output_tokens": output})
    if cell.scenario == "completed":
        return ended(cell, "reported", {"audio_ms": SECONDS * 1000})
    if cell.scenario == "kinds":
        return ended(cell, "reported", _tokens(told, "audio_input_tokens"))
    return ended(cell, "estimated", {"audio_ms": _SOUND_MS})


def _images(cell: Cell) -> Expected:
    if cell.scenario == "completed":
        counts = {"input_tokens": ONE_KIND.input, "output_tokens": ONE_KIND.output}
        return ended(cell, "reported", counts)
    if cell.scenario == "kinds":
        return ended(cell, "reported", _tokens(ALL_KINDS, "image_input_tokens"))
    source = "reported" if cell.scenario == "no-usage" else "estimated"
    return ended(cell, source, {"images": 1})


def _tokens(told: Told, special: str) -> Counts:
    return {"input_tokens": told.input, special: told.cached, "output_tokens": told.output}
