"""Protocols as pure functions: bytes of a wire format to what the lifecycle needs, and back.

`CODECS` is the gateway's whole inference surface: path to codec. A path that is not in it is not served, and
everything in it goes through the one lifecycle, so nothing can be served unmetered. What it does not know:
I/O, routing, money.
"""

from __future__ import annotations

from foundry.codecs.base import Codec
from foundry.codecs.openai import CHAT, COMPLETIONS, EMBEDDINGS

CODECS: dict[str, Codec] = {codec.path: codec for codec in (CHAT, COMPLETIONS, EMBEDDINGS)}
"""Public path to codec."""
