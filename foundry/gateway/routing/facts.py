"""What a policy may ask of a request: its estimated size, and the bytes that equal requests begin with. Worked out only when asked.

What it does not know: targets, protocols beyond the names of their members.
"""

from __future__ import annotations

import hashlib

import msgspec

from foundry.codecs.base import BYTES_PER_TOKEN, Call

_OUTPUT_TOKENS = 256
"""Assumed length of an answer that the caller sets no bound to."""
_PREFIX_BYTES = 4096
_AFFINITY = "prompt_cache_key"
"""OpenAI's own way for a caller to say which requests share a beginning."""
_OPENINGS = ("system", "instructions", "prompt", "input")
_BEFORE_THE_USER = frozenset({"system", "developer"})


class _Turn(msgspec.Struct):
    role: str = ""


_turns = msgspec.json.Decoder(list[msgspec.Raw])
_turn = msgspec.json.Decoder(_Turn)


class Facts:
    """One request, as policies see it."""

    __slots__ = ("_call", "_prefix")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._prefix: int | None = None

    @property
    def input_tokens(self) -> int:
        """Estimated from the size of the request's members."""
        return sum(map(len, self._call.fields.values())) // BYTES_PER_TOKEN

    @property
    def output_tokens(self) -> int:
        """The caller's bound, or a guess."""
        bound = self._call.max_output_tokens
        return _OUTPUT_TOKENS if bound is None else bound

    @property
    def prefix64(self) -> int:
        """64-bit hash of what a conversation keeps from turn to turn: the caller's `prompt_cache_key` if there is one, else
        the system's words and the first turn, at most 4 KiB; the same in every process."""
        if self._prefix is None:
            digest = hashlib.blake2b(_prefix_of(self._call), digest_size=8).digest()
            self._prefix = int.from_bytes(digest, "little")
        return self._prefix


def _prefix_of(call: Call) -> bytes:
    fields = call.fields
    named = fields.get(_AFFINITY)
    if named is not None:
        return bytes(named)
    parts = [bytes(fields[name])[:_PREFIX_BYTES] for name in _OPENINGS if name in fields]
    messages = fields.get("messages")
    if messages is not None:
        parts += _first_turns(messages)
    return b"\n".join(parts)[:_PREFIX_BYTES] or call.body[:_PREFIX_BYTES]


def _first_turns(messages: msgspec.Raw) -> list[bytes]:
    """The messages up to and including the first that is not the system's."""
    found: list[bytes] = []
    try:
        for message in _turns.decode(messages):
            found.append(bytes(message))
            if _turn.decode(message).role not in _BEFORE_THE_USER:
                break
    except msgspec.DecodeError:
        return [bytes(messages)[:_PREFIX_BYTES]]  # the target will say what is wrong with them
    return found
