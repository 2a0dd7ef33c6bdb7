"""The conformance matrix, cell by cell: what the caller saw, what was recorded, and what it cost to the last decimal digit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.conformance.cells import Cell, all_cells
from tests.gateway.conformance.check import check
from tests.gateway.conformance.rig import Rig, rig

_CELLS = list(all_cells())


@pytest_asyncio.fixture(scope="module")
async def matrix(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig(tmp_path_factory.mktemp("matrix")) as made:
        yield made


@pytest.mark.parametrize("cell", _CELLS, ids=lambda cell: cell.id)
async def test_cell(matrix: Rig, cell: Cell) -> None:
    await check(matrix, cell)
