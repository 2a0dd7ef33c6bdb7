"""What a broken upstream answers: the right answer with a change, or anything at all. What it does not know: who asks."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

from tests.gateway import mutations
from tests.gateway.fuzz_rig import Answer, Answering, right_answer

_TYPES = (
    "application/json", "text/event-stream", "text/plain", "text/html; charset=\u00e9".encode().decode("latin-1"), "audio/mpeg",
    "application/vnd.amazon.eventstream", "application/octet-stream", "", "image/png",
)  # fmt: skip
_STATUSES = (201, 204, 301, 400, 401, 403, 404, 408, 413, 418, 422, 429, 500, 502, 503, 529, 599)


def garbage(random: Random) -> Answering:
    """Answers drawn from the generator, which a test seeds anew for each request."""

    def answering(path: str, body: bytes) -> Answer:
        answer = right_answer(path, body)
        kind = random.randrange(12)
        if kind == 0:
            answer = replace(answer, body=random.randbytes(random.choice((0, 1, 7, 400, 70_000))))
        elif kind == 1:
            answer = replace(answer, body=random.choice(mutations.RAW))
        elif kind == 2:
            answer = replace(answer, content_type=random.choice(_TYPES))
        elif kind == 3:
            answer = replace(answer, body=_changed(random, answer), status=random.choice(_STATUSES))
        else:
            answer = replace(answer, body=_changed(random, answer))
        step = random.choice((1 << 20, 1 << 20, 7, 64)) if len(answer.body) < 5000 else 1 << 20
        return replace(answer, breaks=random.random() < 0.15, step=step)

    return answering


def _changed(random: Random, answer: Answer) -> bytes:
    if answer.content_type.startswith("text/event-stream"):
        return _stream(random, answer.body)
    if answer.content_type == "application/json":
        return mutations.json_of(random, json.loads(answer.body))
    return mutations.bytes_of(random, answer.body)


def _stream(random: Random, body: bytes) -> bytes:
    """Events changed, left out, doubled or put elsewhere."""
    frames = body.split(b"\n\n")
    for _ in range(random.randint(1, 3)):
        place, kind = random.randrange(len(frames)), random.randrange(6)
        if kind == 0 and len(frames) > 1:
            del frames[place]
        elif kind == 1:
            frames.insert(random.randrange(len(frames)), frames[place])
        elif kind == 2:
            frames[place] = mutations.bytes_of(random, frames[place])
        else:
            frames[place] = _event(random, frames[place])
    return b"\n\n".join(frames)


def _event(random: Random, frame: bytes) -> bytes:
    head, mark, data = frame.partition(b"data: ")
    try:
        value = json.loads(data)
    except ValueError:
        return mutations.bytes_of(random, frame)
    return head + mark + mutations.json_of(random, value).replace(b"\n", b" ")
