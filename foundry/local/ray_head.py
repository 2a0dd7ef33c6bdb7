"""The Ray head node of one instance, in the foreground, on loopback only.

It does what `ray start --head --block` does, without the parts a local instance has no use for (that command's own imports, the Ray
client server, the autoscaler, the log monitor): on 2 cores they cost 9 of 24 CPU seconds (docs/local.md). Ray's own
entry cannot leave the client server out. The price is two private classes of the pinned Ray version.
What it does not know: Serve and its applications (the control API deploys those), who restarts it (`supervisor.py`).

Run: `python -m foundry.local.ray_head --home DIR` (the supervisor passes Ray's environment, see `services.py`).
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from foundry.errors import ConfigurationError, ProcessError
from foundry.local.instance import LOOPBACK, Instance, load

LOGICAL_CPUS = 16
"""What Ray schedules by, not what the machine has: every Serve replica asks for one beside its engine's workers."""
OBJECT_STORE_BYTES = 160 * 1024 * 1024
"""Serve passes no large objects; Ray's minimum is 75 MiB."""


def run(instance: Instance) -> None:
    """Start the node's processes and stay until one of them dies. Raises ProcessError naming it."""
    from ray._private.node import Node  # private: see the module docstring
    from ray._private.parameter import RayParams

    ports = instance.known_ports()
    instance.temp_dir.mkdir(mode=0o700, exist_ok=True)
    parameters = RayParams(
        node_ip_address=LOOPBACK,
        node_name=LOOPBACK,
        gcs_server_port=ports.gcs,
        node_manager_port=ports.node_manager,
        object_manager_port=ports.object_manager,
        min_worker_port=ports.workers.start,
        max_worker_port=ports.workers.stop - 1,
        dashboard_host=LOOPBACK,
        dashboard_port=ports.dashboard,  # pyright: ignore[reportArgumentType]  # Ray annotates it as bool
        include_dashboard=True,
        dashboard_agent_listen_port=ports.agent_http,
        metrics_agent_port=ports.agent_grpc,
        runtime_env_agent_port=ports.runtime_env,
        metrics_export_port=ports.ray_metrics,
        num_cpus=LOGICAL_CPUS,
        object_store_memory=OBJECT_STORE_BYTES,
        temp_dir=str(instance.temp_dir),
        no_monitor=True,
        include_log_monitor=False,  # pyright: ignore[reportArgumentType]  # Ray annotates it as str
    )
    node = Node(parameters, head=True, shutdown_at_exit=True, spawn_reaper=True)
    print(f"Ray is up: {node.address}, session {node.get_session_dir_path()}", flush=True)  # noqa: T201 - this is its log
    while not (dead := node.dead_processes()):
        time.sleep(1)
    raise ProcessError(
        f"Ray's {dead[0][0]} died with status {dead[0][1].returncode}; logs: {node.get_logs_dir_path()}"
    )


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)  # Ray's exit hook ends its processes


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    home: Path = parser.parse_args().home
    instance = load(home)
    if instance is None:
        raise ConfigurationError(f"{home} has no instance.json: run `foundry up`")
    signal.signal(signal.SIGTERM, _leave)
    run(instance)


if __name__ == "__main__":
    main()
