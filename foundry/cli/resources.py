"""`foundry deployments list|show|add|remove`, `foundry models`: what is deployed and what can be asked.

What it does not know: how deployments are made to run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foundry.cli.context import DEFAULT_HOME, HomeOption, JsonOption, control, running
from foundry.errors import ConfigurationError, FoundryError

if TYPE_CHECKING:
    from foundry.local.instance import Instance
    from foundry.types.deployment import DeploymentSpec

deployments = typer.Typer(
    help="Look at deployments, add and remove them.", no_args_is_help=True, rich_markup_mode=None
)


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


@deployments.command()
def add(
    what: Annotated[
        str, typer.Argument(help="A ready-made one by name, or a JSON file with a DeploymentSpec.")
    ],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Add a deployment, and routes of its model name and its adapters. Ready-made: smollm2, minilm, whisper-tiny, piper-joe."""
    from foundry.types.control import EngineTargetSpec

    spec = _spec(what)
    with control(running(home)) as client:
        client.deployments.put(spec)
        there = {route.name for route in client.routes.list()}
        names = {spec.served_model_name: None} | {adapter: adapter for adapter in spec.adapters}
        for name, adapter in names.items():
            if name not in there:
                target = EngineTargetSpec(deployment=spec.name, adapter=adapter)
                client.routes.put(name, [target], task=spec.task)
    models = ", ".join(names)
    print(f"{spec.name} will serve the model {models}: watch `foundry deployments list`")


@deployments.command()
def remove(name: str, home: HomeOption = DEFAULT_HOME) -> None:
    """Remove a deployment and the routes that lead nowhere else."""
    with control(running(home)) as client:
        for route in client.routes.list():
            if all(target.kind == "engine" and target.deployment == name for target in route.targets):
                client.routes.delete(route.name)
        client.deployments.delete(name)
    print(f"{name} is being removed")


def _spec(what: str) -> DeploymentSpec:
    """Raises ConfigurationError when it is neither known nor a readable file."""
    from pydantic import ValidationError

    from foundry.engines.defaults import READY_MADE
    from foundry.types.deployment import DeploymentSpec

    if what in READY_MADE:
        return READY_MADE[what]
    try:
        return DeploymentSpec.model_validate_json(Path(what).read_bytes())
    except OSError as error:
        known = ", ".join(READY_MADE)
        raise ConfigurationError(
            f"'{what}' is neither ready-made ({known}) nor a file: {error.strerror}"
        ) from error
    except ValidationError as error:
        raise ConfigurationError(f"{what} is no DeploymentSpec: {error}") from error


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
            target.target_id if target.kind == "engine" else f"{target.provider}/{target.model}"
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
