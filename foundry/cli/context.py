"""What commands share: the `--home` option, the instance it names, and clients to it.

What it does not know: any command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foundry.errors import ConfigurationError, Unavailable
from foundry.local import instance as instances
from foundry.local.instance import Instance

if TYPE_CHECKING:
    from foundry.client import ControlClient

DEFAULT_HOME = Path("~/.foundry")
HomeOption = Annotated[
    Path,
    typer.Option(
        "--home", envvar="FOUNDRY_HOME", help="Where the instance keeps its state.", show_default=True
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def home_path(home: Path) -> Path:
    """The home, absolute."""
    return home.expanduser().absolute()


def started(home: Path) -> Instance:
    """The instance in `home`. Raises ConfigurationError when it was never started."""
    found = instances.load(home_path(home))
    if found is None or found.ports is None:
        raise ConfigurationError(f"there is no instance in {home_path(home)}: run `foundry up`")
    return found


def running(home: Path) -> Instance:
    """The instance in `home`. Raises Unavailable when it does not run."""
    from foundry.local.files import is_locked

    found = started(home)
    if not is_locked(found.layout.supervisor_lock):
        raise Unavailable(f"the instance in {found.home} is not running: run `foundry up`")
    return found


def control(instance: Instance) -> ControlClient:
    """A client of the instance's control API, with the admin key."""
    from foundry.client import ControlClient

    return ControlClient(instance.control_url, instance.admin_key)
