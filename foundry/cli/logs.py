"""`foundry logs NAME`: the log of a service, of the gateway or of a deployment.

Services write one file under `<home>/logs`; the gateway and deployments run inside Ray, which writes one file per replica
(kept in `<home>/logs/ray-last` when the instance stops). What it does not know: log formats.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from foundry.cli.context import DEFAULT_HOME, HomeOption, started
from foundry.errors import NotFound
from foundry.local.files import tail

if TYPE_CHECKING:
    from foundry.local.instance import Instance

_FOLLOW_S = 0.3


def logs(
    name: Annotated[
        str, typer.Argument(help="postgres, metrics, ray, control-api, supervisor, gateway, or a deployment.")
    ],
    home: HomeOption = DEFAULT_HOME,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as lines arrive; Ctrl-C ends it.")
    ] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="Lines from the end.")] = 100,
) -> None:
    """Print the end of a log.

    Examples:  foundry logs control-api    foundry logs gateway -f    foundry logs smollm2 -n 500
    """
    instance = started(home)
    files = files_of(instance, name)
    if not files:
        raise NotFound(f"no log of {name!r}: known are {', '.join(known(instance))}")
    for file in files:
        if len(files) > 1:
            print(f"==> {file} <==")
        for line in tail(file, lines, window_bytes=max(64 * 1024, lines * 400)):
            print(line)
    if follow:
        _follow(files)


def files_of(instance: Instance, name: str) -> list[Path]:
    """The log files of a service, the gateway or a deployment; newest last, empty when there are none."""
    own = instance.layout.log(name)
    if name != "ray" and own.exists():
        return [own]
    if name == "ray":
        head = [own] if own.exists() else []
        gcs = [
            path
            for folder in _ray_folders(instance)
            for path in (folder / "raylet.err", folder / "gcs_server.err")
        ]
        return head + [path for path in gcs if path.exists() and path.stat().st_size]
    for folder in _ray_folders(instance):
        found = sorted(
            (folder / "serve").glob(f"replica_{name}_*.log"), key=lambda path: path.stat().st_mtime
        )
        if found:
            return found[-2:]
    return []


def known(instance: Instance) -> list[str]:
    """Names that `logs` takes now."""
    services = {path.stem for path in instance.layout.logs.glob("*.log")}
    replicas = {
        path.name.removeprefix("replica_").split("_", 1)[0]
        for folder in _ray_folders(instance)
        for path in (folder / "serve").glob("replica_*.log")
    }
    return sorted(services | replicas)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(logs)


def _ray_folders(instance: Instance) -> list[Path]:
    candidates = [instance.temp_dir / "session_latest" / "logs", instance.layout.logs / "ray-last"]
    return [folder for folder in candidates if folder.is_dir()]


def _follow(files: list[Path]) -> None:
    opened: list[TextIO] = [file.open(encoding="utf-8", errors="replace") for file in files]
    try:
        for stream in opened:
            stream.seek(0, 2)
        while True:
            for stream in opened:
                for line in stream:
                    print(line, end="", flush=True)
            time.sleep(_FOLLOW_S)
    finally:
        for stream in opened:
            stream.close()
