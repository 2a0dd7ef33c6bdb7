"""The command line, `foundry`: one small file per group of commands; errors are one line on standard error and exit status 1.

Heavy imports (httpx, pydantic, psutil) happen inside the commands that need them: `foundry --help` and `foundry status` answer in
well under half a second. What it does not know: how anything works; it asks `foundry.local` and `foundry.client`.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of the `foundry` script."""
    from foundry.cli.app import run

    run()
