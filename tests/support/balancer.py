"""HAProxy before gateway replicas, as Ray Serve runs it: Serve's own template, the switches that `foundry up` sets, our wrapper.

Run: `python -m tests.support.balancer FOLDER PORT STATS_PORT METRICS_PORT REPLICA_PORT...`; it becomes HAProxy. What it does not
know: how Serve finds replicas. Here their ports are fixed, and a replica that starts again takes its port again.
"""

# Private names: Serve's own rendering has no public name.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import sys
from pathlib import Path

from foundry.local import haproxy
from foundry.local.services import HAPROXY_RETRIES


def main(folder: Path, port: int, stats_port: int, metrics_port: int, replicas: list[int]) -> None:
    """Write the configuration, then become HAProxy."""
    os.environ |= HAPROXY_RETRIES | {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    }
    from ray.serve._private.haproxy import (  # noqa: PLC0415  it reads the variables when it is imported
        BackendConfig,
        HAProxyApi,
        HAProxyConfig,
        ServerConfig,
    )
    from ray.serve.config import HTTPOptions  # noqa: PLC0415  as above

    folder.mkdir(parents=True, exist_ok=True)
    config = HAProxyConfig(
        socket_path=str(folder / "a.sock"), server_state_base=str(folder), server_state_file=str(folder / "state"),
        nbthread=2, stats_port=stats_port, metrics_port=metrics_port, http_options=HTTPOptions(host="127.0.0.1", port=port),
    )  # fmt: skip
    servers = [ServerConfig(name=f"r{number}", host="127.0.0.1", port=number) for number in replicas]
    backend = BackendConfig(
        name="gateway",
        path_prefix="/",
        app_name="gateway",
        servers=servers,
        http_health_check_path="/healthz",
    )
    path = folder / "haproxy.cfg"
    HAProxyApi(
        config, backend_configs={"gateway": backend}, config_file_path=str(path)
    )._generate_config_file_internal()
    wrapper = str(haproxy.write_wrapper(folder / "haproxy"))
    os.execv(wrapper, [wrapper, "-db", "-f", str(path)])  # noqa: S606  it becomes HAProxy, to be killed by its pid


if __name__ == "__main__":
    PORT, STATS_PORT, METRICS_PORT, *REPLICAS = map(int, sys.argv[2:])
    main(Path(sys.argv[1]), PORT, STATS_PORT, METRICS_PORT, REPLICAS)
