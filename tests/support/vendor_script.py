"""What a scripted vendor's wire is made of, and the counts that all of them tell.

What it does not know: any wire (`vendor_scripts.py`, `bedrock_script.py`), sockets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from foundry.types.usage import UsageCounts

KEY = "sk-vendor"
AWS_KEY_ID, AWS_SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG"
WORDS = ("one ", "two ", "three")
THOUGHT = "hm"
PLAIN, CACHED, WRITTEN, SPOKEN, THOUGHT_TOKENS = 5, 4, 2, 3, 2
"""Input 5 + 4 read from a cache + 2 written to one = 11; output 3 spoken + 2 thought = 5."""
INPUT, OUTPUT = PLAIN + CACHED + WRITTEN, SPOKEN + THOUGHT_TOKENS


@dataclass(frozen=True)
class Told:
    """The tokens that one answer tells, by kind; kinds that are 0 are not mentioned."""

    plain: int = PLAIN
    cached: int = CACHED
    written: int = WRITTEN
    spoken: int = SPOKEN
    thought: int = THOUGHT_TOKENS

    @property
    def input(self) -> int:
        return self.plain + self.cached + self.written

    @property
    def output(self) -> int:
        return self.spoken + self.thought


ALL_KINDS, ONE_KIND = Told(), Told(plain=INPUT, cached=0, written=0, thought=0)


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    url: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    raw: bytes
    body: dict[str, Any]


class Script(Protocol):
    """One wire."""

    provider: str
    environment: tuple[tuple[str, str], ...]
    counts: UsageCounts

    def refuses(self, received: Received) -> tuple[int, str] | None: ...
    def model(self, received: Received) -> str: ...
    def streams(self, received: Received) -> bool: ...
    def stream_type(self, received: Received) -> str: ...
    def whole(self, received: Received, told: Told | None) -> dict[str, Any]: ...
    def frames(self, received: Received, told: Told | None, *, fat: bool) -> list[bytes]: ...
    def frames_before_words(self, received: Received) -> int: ...
    def error(self, status: int, message: str) -> dict[str, Any]: ...
    def error_frames(self, received: Received, message: str) -> list[bytes]: ...


def sse(payload: Mapping[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(payload)}\n\n".encode()
