"""Serve the control API.

    python -m control_api        host, port and database from the settings (FOUNDRY_HOME, FOUNDRY_CONTROL__PORT, ...)

SIGTERM or SIGINT: stop accepting, end long polls, finish requests, stop the background tasks.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

import uvicorn

from control_api.app import create_app
from control_api.kit.runtime import Runtime
from foundry.errors import FoundryError
from foundry.settings import load
from foundry.telemetry import configure

_GRACE_S = 10


class Server(uvicorn.Server):
    """uvicorn, told to end long polls as soon as it is asked to stop."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal arrived; runs in the loop's thread between two byte codes."""
        self._runtime.stopping.set()
        self._runtime.changes.fire_all()
        # Not super(): it would raise the signal once more after the clean end, and the status would not be 0.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def main() -> int:
    """Run until a signal; the exit status."""
    settings = load()
    configure("control-api", settings.log_level)
    try:
        app = create_app(settings)
    except FoundryError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return 1
    config = uvicorn.Config(
        app,
        host=settings.control.host,
        port=settings.control.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = Server(config, app.state.runtime)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
