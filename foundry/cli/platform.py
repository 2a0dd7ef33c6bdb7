"""`foundry up`, `down`, `status`, `env`, `version`: the platform as a whole.

What it does not know: how it is started and stopped (`foundry.local.start`).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foundry.cli.context import DEFAULT_HOME, HomeOption, JsonOption, home_path, started

if TYPE_CHECKING:
    from foundry.local.instance import Instance
    from foundry.local.state import PlatformState

_UP_TIMEOUT_S = 1800.0


def up(
    home: HomeOption = DEFAULT_HOME,
    no_models: Annotated[bool, typer.Option("--no-models", help="Do not deploy the default models.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Deploy this model instead of the default chat model: hf://org/name, file:///path. Repeatable."
        ),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, log to the terminal; Ctrl-C stops it.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait until everything is ready.")
    ] = _UP_TIMEOUT_S,
) -> None:
    """Start the platform, or find it running, and wait until it is ready.

    Examples:  foundry up    foundry up --model hf://Qwen/Qwen3-0.6B    foundry up --home /data/foundry --no-models
    """
    from foundry.local import start

    where, uris = home_path(home), tuple(model or ())
    if foreground:
        _in_foreground(where, models=not no_models, model_uris=uris)
    instance, fresh = start.begin(where, models=not no_models, model_uris=uris)
    try:
        state = _show_until_ready(instance, timeout)
    except KeyboardInterrupt:
        sys.stderr.write(
            "\nThe platform goes on starting: `foundry status` shows it, `foundry down` stops it.\n"
        )
        raise typer.Exit(130) from None
    _say_ready(instance, state, fresh=fresh)


def down(
    home: HomeOption = DEFAULT_HOME,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also delete the home: databases, models, keys, logs.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop everything that this instance started, and nothing else.

    Examples:  foundry down    foundry down --purge --yes
    """
    from foundry.local import start

    where = home_path(home)
    if purge and not yes:
        typer.confirm(f"Delete {where} with its databases, models, keys and logs?", abort=True)
    stopped = start.down(where, purge=purge)
    print("stopped" if stopped.was_running else f"nothing was running in {where}")
    for line in stopped.ended:
        print(f"ended a leftover: {line}")
    if purge:
        print(f"deleted {where}")


def status(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show services, gateway, deployments and ports. Exit status 0: ready, 3: not running, 1: anything else.

    Examples:  foundry status    foundry status --json
    """
    from foundry.local import state as states
    from foundry.local.files import is_locked

    instance = started(home)
    alive = is_locked(instance.layout.supervisor_lock)
    state = states.read(instance.layout.state_file) if alive else None
    if as_json:
        _print_json(instance, state)
    elif state is None:
        print(f"not running ({instance.home}): `foundry up` starts it")
    else:
        _print_status(instance, state)
    if state is None:
        raise typer.Exit(3)
    if state.phase != "ready":
        raise typer.Exit(1)


def env(home: HomeOption = DEFAULT_HOME) -> None:
    """Print shell exports for OpenAI clients; use it as: eval "$(foundry env)"."""
    instance = started(home)
    print(f"export OPENAI_BASE_URL={shlex.quote(instance.openai_url)}")
    print(f"export OPENAI_API_KEY={shlex.quote(instance.admin_key)}")


def version() -> None:
    """Print the version."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        print(f"foundry {installed('foundry')}")
    except PackageNotFoundError:
        print("foundry (a checkout that is not installed)")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(env)
    app.command()(version)


def _in_foreground(home: Path, *, models: bool, model_uris: tuple[str, ...]) -> None:
    import os

    from foundry.local import instance as instances
    from foundry.local import start

    command = start.supervisor_command(home, models=models, model_uris=model_uris)
    environment = start.supervisor_environment(instances.load_or_create(home))
    os.execve(command[0], command, environment)  # noqa: S606 - we become the supervisor


def _show_until_ready(instance: Instance, timeout_s: float) -> PlatformState:
    from rich.console import Console
    from rich.live import Live

    from foundry.cli.render import PlainLines, table
    from foundry.local import start

    console = Console()
    if not console.is_terminal:
        lines = PlainLines()

        def tell(state: PlatformState) -> None:
            for line in lines.changes(state):
                print(line, flush=True)

        return start.wait(instance, timeout_s=timeout_s, on_state=tell)
    with Live(console=console, refresh_per_second=5, transient=False) as live:
        return start.wait(instance, timeout_s=timeout_s, on_state=lambda state: live.update(table(state)))


def _say_ready(instance: Instance, state: PlatformState, *, fresh: bool) -> None:
    from foundry.cli.render import welcome
    from foundry.cli.resources import first_chat_route

    for note in state.notes if fresh else []:
        print(f"note: {note}")
    shown = instance.layout.secrets / ".admin.key.shown"
    first_time = not shown.exists()
    model = first_chat_route(instance)
    said = (
        "already running"
        if not fresh
        else f"ready after {state.ready_after_s:.0f} s"
        if state.ready_after_s
        else "ready"
    )
    print(f"\nFoundry is {said}.\n")
    print(welcome(instance, model=model, show_key=first_time, program=_program()))
    if first_time:
        shown.touch(mode=0o600)


def _program() -> str:
    """What to type to run this command again: its name if that finds it, else its path from here."""
    used = Path(sys.argv[0]).absolute()
    found = shutil.which(used.name)
    if used.name == "foundry" and found is not None and Path(found).samefile(used):
        return "foundry"
    return os.path.relpath(used) if used.name == "foundry" else f"{sys.executable} -m foundry.cli"


def _print_json(instance: Instance, state: PlatformState | None) -> None:
    import msgspec

    urls = {
        "openai": instance.openai_url,
        "control": instance.control_url,
        "dashboard": instance.dashboard_url,
    }
    content = {
        "home": str(instance.home),
        "instance_id": instance.id,
        "running": state is not None,
        "phase": state.phase if state else "stopped",
        "urls": urls,
        "ports": instance.known_ports().named(),
        "state": msgspec.to_builtins(state) if state else None,
    }
    print(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())


def config_lines(state: PlatformState) -> list[str]:
    """What a person should know of `foundry.toml`: nothing while it is well."""
    if not state.config_problems:
        return []
    rejected = state.config_status == "rejected"
    head = (
        "foundry.toml has errors; the last good one stays in force" if rejected else "foundry.toml, warnings"
    )
    return [f"\n{head}:", *(f"  {line}" for line in state.config_problems)]


def _print_status(instance: Instance, state: PlatformState) -> None:
    from rich.console import Console

    from foundry.cli.render import duration, table

    console = Console()
    console.print(table(state))
    for line in config_lines(state):
        console.print(
            line,
            style="bold red" if state.config_status == "rejected" else "yellow",
            markup=False,
            highlight=False,
        )
    age = time.time() - state.updated_at
    snapshot = (
        f"snapshot {state.snapshot_version}" if state.snapshot_version is not None else "no snapshot yet"
    )
    console.print(
        f"\n{snapshot} · seen {duration(age)} ago · home {instance.home} · instance {instance.id}",
        style="dim",
    )
    console.print(
        f"endpoint {instance.openai_url} · control {instance.control_url} · dashboard {instance.dashboard_url}",
        style="dim",
    )
