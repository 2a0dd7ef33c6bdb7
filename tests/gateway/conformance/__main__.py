"""Plays every cell and writes docs/conformance.md when all of them came out as expected:

PYTHONPATH=. python -m tests.gateway.conformance
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path

from tests.gateway.conformance import page
from tests.gateway.conformance.cells import all_cells
from tests.gateway.conformance.check import check, check_fallback, check_refusal
from tests.gateway.conformance.fallbacks import all_fallbacks
from tests.gateway.conformance.refusals import REFUSALS
from tests.gateway.conformance.rig import Rig, rig


async def _play() -> int:
    """Number of cells that did not."""
    with tempfile.TemporaryDirectory() as folder:
        async with rig(Path(folder)) as made:
            return sum([await _failed(name, played) for name, played in _all(made)])


def _all(made: Rig) -> list[tuple[str, Awaitable[None]]]:
    cells = [(cell.id, check(made, cell)) for cell in all_cells()]
    fallbacks = [(cell.id, check_fallback(made, cell)) for cell in all_fallbacks()]
    return [*cells, *fallbacks, *((refusal.id, check_refusal(made, refusal)) for refusal in REFUSALS)]


async def _failed(name: str, played: Awaitable[None]) -> bool:
    try:
        await played
    except AssertionError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return True
    return False


if __name__ == "__main__":
    wrong = asyncio.run(_play())
    if wrong:
        sys.exit(
            f"{wrong} cells did not come out as expected: see `pytest tests/gateway/test_conformance.py`"
        )
    page.PATH.write_text(page.render(), encoding="utf-8")
