"""A Ray of its own with Serve, HAProxy and the two default engines: the child process of `test_engine_real.py`.

    python -m tests.serve_apps.engine_instance FOLDER

Prints `port N` when both engines answer, or why they do not; ends, with all it started, when its standard input does.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from tests.conftest import free_port

_FOLDER = Path(sys.argv[1])


def environment(folder: Path) -> dict[str, str]:
    """Ports and paths that no other instance on this machine uses."""
    haproxy = folder / "haproxy"
    haproxy.mkdir()
    token = folder / "ray.token"
    token.write_text("a" * 64)
    return {
        "FOUNDRY_HOME": str(folder / "home"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "a.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first := free_port()),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(min(first + 50, 65535)),
    }


def main() -> None:
    """Start, deploy, tell, wait for the end."""
    os.environ.update(environment(_FOLDER))
    import ray  # noqa: PLC0415  (reads the variables above when it is imported)
    from ray import serve  # noqa: PLC0415  (as above)

    from foundry.engines.defaults import DEFAULT_DEPLOYMENTS  # noqa: PLC0415  (as above)
    from serve_apps.engine import build  # noqa: PLC0415  (as above)

    port = free_port()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        _temp_dir=str(_FOLDER / "ray"),
        log_to_driver=False,
        namespace="test",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    targets = [
        serve.RunTarget(
            target=build({"spec": spec.model_dump(mode="json")}),
            name=spec.name,
            route_prefix=f"/engines/{spec.name}",
        )
        for spec in DEFAULT_DEPLOYMENTS
    ]
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        serve.run_many(targets)
    except RuntimeError as error:
        sys.stdout.write(f"failed: {error}\n".replace("\n", " | "))
    else:
        sys.stdout.write(f"port {port}\n")
    sys.stdout.flush()
    threading.Event().wait()


def _end_with_stdin() -> None:
    sys.stdin.read()
    import ray  # noqa: PLC0415  (as above)

    ray.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
