"""What a request will use, told before it runs: what limits and budgets reserve.

The answer's length is the caller's own bound where it gives one, so nothing can exceed it; the rest is estimated high. What it
does not know: limits, targets.
"""

from __future__ import annotations

import msgspec

from foundry.codecs.base import Call
from foundry.types.deployment import Task

BYTES_PER_RESERVED_TOKEN = 3
"""Of a request body. English in JSON has more than 4 bytes a token, code and CJK text about 3: seldom too low."""
DEFAULT_OUTPUT_TOKENS = 1024
"""Reserved for an answer whose length the caller does not bound."""
MEDIA_TOKENS = 1500
"""Reserved for an image or a sound inside a JSON body, in place of its base64."""
_BYTES_PER_AUDIO_MS = 4
"""32 kbit/s: sound that is uploaded is seldom coded in less."""
_AUDIO_MS_PER_INPUT_TOKEN = 100
_AUDIO_MS_PER_OUTPUT_TOKEN = 250
_MEDIA_MARKS = (b";base64,", b'"data":"', b'"data": "')
_MEDIA_BYTES = 8192
"""Smaller bodies are not searched for media."""
_GENERATES = frozenset({Task.GENERATE})


class Estimate(msgspec.Struct, frozen=True):
    """Quantities by kind of use, as in `UsageCounts`."""

    input_tokens: int = 0
    output_tokens: int = 0
    images: int = 0
    audio_ms: int = 0
    characters: int = 0
    searches: int = 0


def estimate(task: Task, call: Call, request_bytes: int) -> Estimate:
    """For one request whose body has so many bytes."""
    if task in _GENERATES:
        output = call.max_output_tokens
        output = DEFAULT_OUTPUT_TOKENS if output is None else max(0, output)
        return Estimate(_text_tokens(call, request_bytes), output)
    if task is Task.TRANSCRIBE:
        audio_ms = len(call.body) // _BYTES_PER_AUDIO_MS
        return Estimate(
            audio_ms // _AUDIO_MS_PER_INPUT_TOKEN, audio_ms // _AUDIO_MS_PER_OUTPUT_TOKEN, audio_ms=audio_ms
        )
    tokens = _text_tokens(call, request_bytes)
    if task is Task.IMAGE:
        return Estimate(tokens, images=_copies(call))
    if task is Task.SPEAK:
        return Estimate(tokens, characters=request_bytes)
    return Estimate(tokens, searches=int(task is Task.RERANK))


def _text_tokens(call: Call, request_bytes: int) -> int:
    if call.body:  # a form: its files are not text
        request_bytes = sum(len(memoryview(value)) for value in call.fields.values())
    media = 0
    if request_bytes > _MEDIA_BYTES:
        for value in call.fields.values():
            found, size = _media(bytes(value))
            media += found
            request_bytes -= size
    return -(-request_bytes // BYTES_PER_RESERVED_TOKEN) + media * MEDIA_TOKENS


def _media(text: bytes) -> tuple[int, int]:
    """How many base64 strings stand in the JSON text, and their bytes."""
    found = size = 0
    for mark in _MEDIA_MARKS:
        at = text.find(mark)
        while at >= 0:
            end = text.find(b'"', at + len(mark))
            end = len(text) if end < 0 else end
            if end - at > _MEDIA_BYTES:
                found, size = found + 1, size + end - at
            at = text.find(mark, end)
    return found, size


def _copies(call: Call) -> int:
    raw = bytes(call.fields.get("n", b"1")).strip(b'" ')
    return max(1, int(raw)) if raw.isdigit() and len(raw) < _DIGITS else 1


_DIGITS = 6
