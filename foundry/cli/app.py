"""Wires the commands together and renders errors. What it does not know: what any command does."""

from __future__ import annotations

import sys

import typer

from foundry.cli import ask, configuration, gateway, keys, logs, platform, resources, usage
from foundry.errors import FoundryError

app = typer.Typer(
    name="foundry",
    help="One platform for LLM inference on Ray: start it, look at it, use it, stop it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Start with `foundry up`, then: eval "$(foundry env)" and use any OpenAI client.',
)
for module in (platform, ask, usage, resources, configuration, gateway, logs):
    module.add_to(app)
app.add_typer(keys.app, name="keys")


def run() -> None:
    """Run the command line; a FoundryError becomes one message on standard error and exit status 1."""
    try:
        app()
    except FoundryError as error:
        sys.stderr.write(f"foundry: {error.message}\n")
        sys.exit(1)
    except BrokenPipeError:  # `foundry logs ray | head`
        sys.stderr.close()
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
