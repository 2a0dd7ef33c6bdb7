"""What a caller says about waiting for an engine to start: the header `x-foundry-wait`.

    no        answer 503 with Retry-After at once
    stream    wait, and tell me meanwhile in comments of the stream
    <number>  wait at most that many seconds
    nothing   wait as long as the route does

`stream` and a number go together ("stream, 30"). What it does not know: routes, engines.
"""

from __future__ import annotations

import msgspec

from foundry.errors import InvalidParameter

HEADER = b"x-foundry-wait"


class Wait(msgspec.Struct, frozen=True):
    """A caller's wish."""

    willing: bool = True
    streams: bool = False
    at_most_s: float | None = None
    """None: as long as the route does."""


DEFAULT = Wait()


def wait_of(headers: dict[bytes, bytes]) -> Wait:
    """Raises InvalidParameter for a value that means nothing."""
    raw = headers.get(HEADER)
    if raw is None:
        return DEFAULT
    wait = DEFAULT
    for part in raw.decode("latin-1").lower().replace(";", ",").split(","):
        word = part.strip()
        if word == "no":
            wait = msgspec.structs.replace(wait, willing=False)
        elif word == "stream":
            wait = msgspec.structs.replace(wait, streams=True)
        elif word.isdigit():
            wait = msgspec.structs.replace(wait, at_most_s=float(word))
        else:
            raise InvalidParameter(
                f"x-foundry-wait is '{word[:50]}': say 'no', 'stream', or a number of seconds",
                param="x-foundry-wait",
            )
    return wait
