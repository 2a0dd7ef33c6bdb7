"""The worker process: holds the guards whose libraries are large or slow, so that the gateway's own process has neither.

    python -m foundry.gateway.guardrails.worker

It reads frames on stdin and answers each on stdout (a frame: its length in 4 bytes, big-endian, and MessagePack), and ends
when stdin closes, so it never outlives the gateway. What it does not know: profiles, thresholds, requests.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import BinaryIO

import msgspec
import structlog

from foundry.errors import FoundryError
from foundry.gateway.guardrails.base import Finding, Guard
from foundry.gateway.guardrails.registry import GUARDS

log = structlog.get_logger()

HEAD = struct.Struct(">I")
_UNUSED = ("torch", "tensorflow", "mxnet", "cupy", "pandas", "transformers")
"""spaCy and Presidio import these when they are there, and no guard uses them: 300 MB and seconds."""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """Look at these texts with a guard; no texts: only load it."""

    kind: str
    options_json: str
    texts: list[str]


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What was found, or why nothing could be."""

    findings: list[Finding]
    error: str = ""


_question = msgspec.msgpack.Decoder(Question)
_encoder = msgspec.msgpack.Encoder()


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer questions until `source` ends."""
    guards: dict[tuple[str, str], Guard] = {}
    while len(head := source.read(HEAD.size)) == HEAD.size:
        question = _question.decode(source.read(HEAD.unpack(head)[0]))
        payload = _encoder.encode(_answer(guards, question))
        sink.write(HEAD.pack(len(payload)) + payload)
        sink.flush()


def _answer(guards: dict[tuple[str, str], Guard], question: Question) -> Reply:
    name = (question.kind, question.options_json)
    try:
        guard = guards.get(name)
        if guard is None:
            kind = GUARDS[question.kind]
            guard = guards[name] = kind(kind.options_of(msgspec.json.decode(question.options_json)))
        return Reply(guard.inspect(question.texts) if question.texts else [])
    except FoundryError as error:
        return Reply([], error.message)
    except Exception as error:  # the process edge: the profile says what follows
        log.exception("guard_failed_in_worker", kind=question.kind)
        return Reply([], f"{type(error).__name__} in guard '{question.kind}'")


def main() -> None:
    """Serve stdin and stdout; whatever a library prints goes to stderr."""
    for name in _UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to make an import fail
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
