"""`foundry deployments list|show`, `foundry models`: what is deployed and what can be asked. Read only.

What it does not know: how deployments are made to run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from foundry.cli.context import DEFAULT_HOME, HomeOption, JsonOption, control, running
from foundry.errors import FoundryError

if TYPE_CHECKING:
    from foundry.local.instance import Instance

deployments = typer.Typer(help="Look at deployments.", no_args_is_help=True, rich_markup_mode=None)


@deployments.command("list")
def list_deployments(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List deployments with phase, progress and detail."""
    with control(running(home)) as client:
        found = client.deployments.list()
    if as_json:
        print("[" + ",".join(one.model_dump_json() for one in found) + "]")
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table("name", "task", "model", "engine", "phase", "replicas", "detail", box=None, pad_edge=False)
    for one in found:
        status = one.status
        percent = f" {status.percent:.0f}%" if status.percent is not None else ""
        replicas = f"{status.ready_replicas}/{one.spec.replicas}"
        grid.add_row(
            *(one.name, one.spec.task.value, one.spec.model, one.spec.engine),
            *(f"{status.phase.value}{percent}", replicas, status.detail),
        )
    Console().print(grid)


@deployments.command()
def show(name: str, home: HomeOption = DEFAULT_HOME) -> None:
    """Print one deployment as JSON: what is wanted, and what is."""
    with control(running(home)) as client:
        print(client.deployments.get(name).model_dump_json(indent=2))


def models(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List routes: the model names that clients may ask for, and what answers them."""
    with control(running(home)) as client:
        found = client.routes.list()
    if as_json:
        print("[" + ",".join(route.model_dump_json() for route in found) + "]")
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table("model", "task", "targets", box=None, pad_edge=False)
    for route in found:
        targets = ", ".join(
            f"engine/{target.deployment}" if target.kind == "engine" else f"{target.provider}/{target.model}"
            for target in route.targets
        )
        grid.add_row(route.name, route.task.value, targets)
    Console().print(grid)


def first_chat_route(instance: Instance) -> str | None:
    """The chat route that was made last, or None when there is none or the control API is away."""
    try:
        with control(instance) as client:
            return next(
                (route.name for route in client.routes.list() if route.task.value == "generate"), None
            )
    except FoundryError:
        return None


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(deployments, name="deployments")
    app.command()(models)
