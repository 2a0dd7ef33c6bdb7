"""How we see that something is ready: a line in its log, or an answer over HTTP. Standard library only, nothing long-lived.

What it does not know: which service is asked, or how often.
"""

from __future__ import annotations

import http.client
from pathlib import Path

import msgspec

from foundry.errors import UpstreamUnreachable
from foundry.local.instance import LOOPBACK

_TIMEOUT_S = 5.0
_OK = 200


def get(
    port: int, path: str, token: str | None = None, *, timeout_s: float = _TIMEOUT_S
) -> tuple[int, bytes]:
    """Status and body of a GET on loopback. Blocking. Raises UpstreamUnreachable when nothing answers."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise UpstreamUnreachable(f"http://{LOOPBACK}:{port}{path} does not answer: {error}") from error
    finally:
        connection.close()


class HttpProbe(msgspec.Struct, frozen=True):
    """Ready when a GET answers 200."""

    port: int
    path: str
    token: str | None = None

    def ready(self, log: Path, log_offset: int) -> bool:
        """One try. Blocking, a few milliseconds when it is up."""
        del log, log_offset
        try:
            return get(self.port, self.path, self.token)[0] == _OK
        except UpstreamUnreachable:
            return False


class LogProbe(msgspec.Struct, frozen=True):
    """Ready when a line of this start's output begins with `prefix`."""

    prefix: str

    def ready(self, log: Path, log_offset: int) -> bool:
        """One look at what the log holds since `log_offset`."""
        try:
            with log.open("rb") as file:
                file.seek(log_offset)
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return False
        return any(line.startswith(self.prefix) for line in text.splitlines())


Probe = HttpProbe | LogProbe
