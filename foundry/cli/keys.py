"""`foundry keys create|list|revoke`: virtual keys. What it does not know: how keys are hashed or checked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from foundry.cli.context import DEFAULT_HOME, HomeOption, JsonOption, control, running
from foundry.cli.usage import parse_since

app = typer.Typer(help="Make, list and revoke virtual keys.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    home: HomeOption = DEFAULT_HOME,
    route: Annotated[list[str] | None, typer.Option(help="Allow only this route. Repeatable.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: a time, or from now on (12h, 30d).")
    ] = None,
    guardrail: Annotated[
        list[str] | None, typer.Option(help="A guardrail profile for all its requests. Repeatable.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may also use the control API.")] = False,
) -> None:
    """Make a key and print it; it is never shown again.

    Examples:  foundry keys create ci    foundry keys create demo --expires 7d --route smollm2-135m-instruct
    """
    with control(running(home)) as client:
        made = client.keys.create(
            name,
            scopes=("inference", "admin") if admin else ("inference",),
            allowed_routes=tuple(route) if route else None,
            expires_at=_until(expires) if expires else None,
            guardrails=tuple(guardrail or ()),
        )
    print(made.key)


@app.command("list")
def list_keys(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List keys without their secrets."""
    with control(running(home)) as client:
        found = client.keys.list()
    if as_json:
        print("[" + ",".join(key.model_dump_json() for key in found) + "]")
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    grid.add_column(
        "id", no_wrap=True, min_width=max((len(key.id) for key in found), default=2)
    )  # for `revoke`
    for title in ("name", "scopes", "routes", "expires", "state"):
        grid.add_column(title)
    now = datetime.now(UTC)
    for key in found:
        expired = key.expires_at is not None and key.expires_at <= now
        state = "revoked" if key.revoked_at else "expired" if expired else "live"
        expires = f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "never"
        routes = ", ".join(key.allowed_routes) if key.allowed_routes is not None else "all"
        grid.add_row(key.id, key.name, " ".join(key.scopes), routes, expires, state)
    Console().print(grid)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], home: HomeOption = DEFAULT_HOME) -> None:
    """Stop a key for good."""
    with control(running(home)) as client:
        client.keys.revoke(key_id)
    print(f"revoked {key_id}")


def _until(text: str) -> datetime:
    now = datetime.now(UTC)
    moment = parse_since(text, now, option="--expires")
    age: timedelta = now - moment
    return now + age if text[-1:] in "smhd" and text[:-1].isdigit() else moment
