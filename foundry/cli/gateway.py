"""`foundry gateway check|import`: the gateway's configuration as a file. Both work without a running platform.

What it does not know: what a file may say (`foundry.declare`), how it is applied (the control API).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foundry.errors import ConfigurationError

if TYPE_CHECKING:
    from foundry.located import Problem

app = typer.Typer(
    help="Check the gateway's configuration file, or make one from another gateway's.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
importers = typer.Typer(
    help="Turn another gateway's configuration into ours.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(importers, name="import")
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file to read.")]


@app.command()
def check(
    file: FileArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check a foundry.toml: every problem with its line and column. Exit status 0: it can be applied, 1: it cannot.

    Examples:  foundry gateway check foundry.toml    foundry gateway check --json foundry.toml
    """
    from foundry.declare.check import check as check_text

    checked = check_text(read(file))
    if as_json:
        _print_json(file, checked.problems)
    else:
        for problem in checked.problems:
            print(problem.render(str(file)), file=sys.stderr if problem.severity == "error" else sys.stdout)
        if checked.ok:
            gateway = checked.gateway
            tables = {name: len(getattr(gateway, name)) for name in type(gateway).model_fields}
            counted = ", ".join(f"{count} {name}" for name, count in tables.items() if count)
            print(f"{file}: good ({counted or 'nothing declared'})")
        else:
            print(f"{file}: {len(checked.errors)} error(s)", file=sys.stderr)
    if not checked.ok:
        raise typer.Exit(1)


@importers.command("litellm")
def import_litellm(
    file: FileArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here instead of to standard output.")
    ] = None,
) -> None:
    """Turn a LiteLLM proxy's config.yaml into a foundry.toml, and list on standard error what has no equivalent.

    Examples:  foundry gateway import litellm config.yaml -o foundry.toml
    """
    from foundry.declare.check import check as check_text
    from foundry.declare.litellm.convert import convert

    converted = convert(read(file), str(file))
    checked = check_text(converted.toml)
    if output is None:
        print(converted.toml, end="")
    else:
        output.write_text(converted.toml, encoding="utf-8")
    where = str(output or "foundry.toml")
    for remark in converted.remarks:
        kind = "left out" if remark.dropped else "differs"
        print(
            f"{file}:{remark.line}: {kind}: {remark.path}: {remark.reason}; {remark.instead}", file=sys.stderr
        )
    for problem in checked.problems:
        print(problem.render(where), file=sys.stderr)
    dropped = sum(remark.dropped for remark in converted.remarks)
    print(
        f"{len(checked.gateway.routes)} route(s), {dropped} key(s) left out; check it with `foundry gateway check {where}`",
        file=sys.stderr,
    )
    if not checked.ok:
        raise typer.Exit(1)


def read(file: Path) -> str:
    """A file's text. Raises ConfigurationError that names it."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}", param=str(file)) from error


def _print_json(file: Path, problems: tuple[Problem, ...]) -> None:
    import json

    rows = [
        {
            "file": str(file),
            "line": one.place.line,
            "column": one.place.column,
            "severity": one.severity,
            "path": one.dotted,
            "value": one.value,
            "message": one.message,
        }
        for one in problems
    ]
    print(json.dumps(rows, indent=2))


def add_to(root: typer.Typer) -> None:
    """Register the commands."""
    root.add_typer(app, name="gateway")
