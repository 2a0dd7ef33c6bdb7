"""Thoughts with signatures inside the Responses API's `encrypted_content`.

Targets that sign their thoughts (Anthropic) want them back unchanged. Callers of the Responses API keep `encrypted_content`, so
signature and redacted bytes travel in it. What another platform put there cannot be read here: such a thought keeps its text.
What it does not know: targets, I/O.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from foundry.types.chat import Reasoning

_PREFIX = "fdry1."


class _Sealed(msgspec.Struct, array_like=True):
    signature: str | None
    redacted_base64: str | None


_sealed = msgspec.json.Decoder(_Sealed)
_encoder = msgspec.json.Encoder()


def sealed(thought: Reasoning) -> str | None:
    """`encrypted_content` of a thought; None for one that nobody wants back."""
    if thought.signature is None and thought.redacted_base64 is None:
        return None
    body = _encoder.encode(_Sealed(thought.signature, thought.redacted_base64))
    return _PREFIX + base64.urlsafe_b64encode(body).decode()


def read_thought(text: str, encrypted_content: str | None) -> Reasoning | None:
    """The thought again; None when nothing of it can be read."""
    if encrypted_content is None or not encrypted_content.startswith(_PREFIX):
        return Reasoning(text) if text else None
    try:
        found = _sealed.decode(base64.urlsafe_b64decode(encrypted_content[len(_PREFIX) :]))
    except (binascii.Error, ValueError):
        return Reasoning(text) if text else None
    return Reasoning(text, found.signature, found.redacted_base64)
