"""The conformance matrix, cell by cell: what the caller saw, what was recorded, and what it cost to the last decimal digit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.conformance import page
from tests.gateway.conformance.cells import Cell, all_cells
from tests.gateway.conformance.check import check, check_fallback, check_refusal
from tests.gateway.conformance.fallbacks import Fallback, all_fallbacks
from tests.gateway.conformance.refusals import REFUSALS, Refusal
from tests.gateway.conformance.rig import Rig, rig

pytestmark = pytest.mark.long


@pytest_asyncio.fixture(scope="module")
async def matrix(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig(tmp_path_factory.mktemp("matrix")) as made:
        yield made


def _id(case: Cell | Refusal) -> str:
    return case.id


@pytest.mark.parametrize("cell", list(all_cells()), ids=_id)
async def test_cell(matrix: Rig, cell: Cell) -> None:
    await check(matrix, cell)


@pytest.mark.parametrize("cell", list(all_fallbacks()), ids=_id)
async def test_fallback(matrix: Rig, cell: Fallback) -> None:
    await check_fallback(matrix, cell)


@pytest.mark.parametrize("refusal", REFUSALS, ids=_id)
async def test_refused_by_name(matrix: Rig, refusal: Refusal) -> None:
    await check_refusal(matrix, refusal)


def test_the_page_shows_the_cells_as_they_are() -> None:
    assert page.PATH.read_text(encoding="utf-8") == page.render(), "run: python -m tests.gateway.conformance"


async def test_no_request_has_two_records(matrix: Rig) -> None:
    assert {name: n for name, n in matrix.record_counts().items() if n != 1} == {}
