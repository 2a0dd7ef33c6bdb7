"""docs/conformance.md, written from the cells.

What it does not know: whether the product does so: the tests hold each cell against a real gateway, and the page against the cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from tests.gateway.conformance.cells import (
    KINDS,
    SCENARIOS,
    SERVED,
    Cell,
    Kind,
    Protocol,
    Scenario,
    all_cells,
)
from tests.gateway.conformance.expect import Expected
from tests.gateway.conformance.expect_media import expect
from tests.gateway.conformance.fallbacks import TROUBLES, all_fallbacks
from tests.gateway.conformance.money import (
    AUDIO_IN,
    CACHED,
    IMAGE,
    IMAGE_IN,
    IN,
    MCHAR,
    OUT,
    SEARCH,
    SECOND,
    WRITTEN,
    Counts,
)
from tests.gateway.conformance.refusals import REFUSALS

PATH = Path(__file__).parents[3] / "docs" / "conformance.md"
_HEAD = f"""# Conformance matrix

Written by `python -m tests.gateway.conformance` from the cells of `tests/gateway/conformance/`, after each of them came out so; do not
edit. `tests/gateway/test_conformance.py` plays every cell: the official `openai` and `anthropic` clients (rerank: plain HTTP) talk to a
real gateway over HTTP; behind it a double of each provider speaks its wire and ends as the column says. What must come of a cell is worked
out in the test from what the double sends, and the cost by hand in decimals, never read back from the product.

Every cell also holds: exactly one usage record; the caller is told the tokens that are recorded, where its protocol tells any;
`x-foundry-cost-usd` of a whole answer is the record's; what came before an upstream failed or a client left reached the client, and
nothing ends as if it were whole that is not.

A cell: HTTP status and recorded outcome (of a failure its code), source of the counts, tokens in + out, dollars. Kinds inside: `c` cached,
`w` written to a cache, `r` reasoning, `a` sound, `i` picture. `⌈B/4⌉`: a token per four bytes of the request, where nobody tells; the cost
follows from it. 499: the client left before the head of an answer. 200 with an error code: the error is the stream's last event (of
speech: the connection is broken off).

Rates, in dollars per million tokens: in {IN}, cached {CACHED}, written {WRITTEN}, sound {AUDIO_IN}, pictures {IMAGE_IN}, out {OUT};
per image {IMAGE}, second of sound {SECOND}, million characters {MCHAR}, search {SEARCH}.
"""
_TAIL = """
## To add

- a provider kind: its script in `tests/support/` (a line in `SCRIPTS`), a name in `Kind`, `KINDS` and `SERVED` of `cells.py`, what its
  wire tells of a whole and of a cut answer in `expect.py`;
- a protocol: a name in `Protocol`, `SERVED`, `TASKS`, a function in `drive.py` or `drive_media.py` that sends it by an official client,
  its counts in `expect.py` or `expect_media.py`, its end marker in `check.py`;
- a way to end: a line in `SCENARIOS` and the behaviour of the doubles in `scripted_vendor.py`;
- then write the page anew: the test that compares it fails until then.
"""


def render() -> str:
    """The whole page."""
    parts = [_HEAD]
    for protocol in SERVED:
        parts += [f"\n## {protocol}\n\n", *_table(protocol)]
    parts += ["\n## Fallback\n\n", *_fallbacks(), "\n## Refused by name\n\n", *_refusals(), _TAIL]
    return "".join(parts)


def _table(protocol: Protocol) -> Iterator[str]:
    cells: list[Cell] = [cell for cell in all_cells() if cell.protocol == protocol]
    by_place = {(cell.kind, cell.stream, cell.scenario): cell for cell in cells}
    columns: list[Scenario] = [
        one for one in SCENARIOS if one != "not-served" and any(cell.scenario == one for cell in cells)
    ]
    yield f"| | {' | '.join(SCENARIOS[column][0] for column in columns)} |\n"
    yield "|---" * (len(columns) + 1) + "|\n"
    rows: list[tuple[Kind, bool]] = [(cell.kind, cell.stream) for cell in cells if cell.served]
    for kind, stream in dict.fromkeys(rows):
        found = (by_place.get((kind, stream, column)) for column in columns)
        row = " | ".join(_shown(expect(cell)) if cell else "" for cell in found)
        yield f"| {_name(kind, stream=stream)} | {row} |\n"
    yield _not_served(cells)


def _not_served(cells: Sequence[Cell]) -> str:
    refused = [cell for cell in cells if not cell.served]
    if not refused:
        return ""
    names = ", ".join(dict.fromkeys(KINDS[cell.kind] for cell in refused))
    expected = expect(refused[0])
    why = f"{expected.status} `{expected.error_code}`, which names the target; nobody is asked and nothing charged"
    return f"\nNot served: {names} ({why}).\n"


def _name(kind: Kind, *, stream: bool) -> str:
    return f"{KINDS[kind]}, {'streamed' if stream else 'whole'}"


def _shown(expected: Expected) -> str:
    status = expected.status if expected.recorded_status is None else expected.recorded_status
    what = expected.error_code or expected.outcome
    if expected.usage_source == "none":
        return f"{status} {what}<br>none<br>0"
    cost = "by size" if expected.input_by_bytes else _dollars(expected.cost_usd(0))
    tokens = _tokens(expected.counts, "⌈B/4⌉" if expected.input_by_bytes else None)
    return f"{status} {what}<br>{expected.usage_source} {tokens}<br>{cost}"


def _dollars(cost: Decimal) -> str:
    return f"{cost.normalize():f}"


def _tokens(counts: Counts, by_size: str | None) -> str:
    for name, unit in (
        ("characters", "characters"),
        ("audio_ms", "ms"),
        ("images", "image"),
        ("searches", "search"),
    ):
        if counts.get(name):
            return f"{counts[name]} {unit}"
    special = {
        "c": "cached_input_tokens",
        "w": "cache_write_tokens",
        "a": "audio_input_tokens",
        "i": "image_input_tokens",
    }
    inside = " ".join(f"{counts[name]}{letter}" for letter, name in special.items() if counts.get(name))
    thought = counts.get("reasoning_tokens", 0)
    given = by_size or str(counts.get("input_tokens", 0))
    made = str(counts.get("output_tokens", 0))
    return f"{given}{f' ({inside})' if inside else ''} + {made}{f' ({thought}r)' if thought else ''}"


def _fallbacks() -> Iterator[str]:
    yield "The second target answers in place of the first; the record has both attempts, its counts and cost are their sums.\n\n"
    yield "| | first | what happens to it | second answers | cost of first | of second | recorded |\n|---|---|---|---|---|---|---|\n"
    for cell in all_fallbacks():
        first = cell.first_counts()
        expected = cell.expected()
        costs = (
            Expected(0, "", counts=first).cost_usd(0),
            Expected(0, "", counts=cell.second_counts()).cost_usd(0),
        )
        row = (
            f"{cell.protocol}, {'streamed' if cell.stream else 'whole'}", KINDS[cell.first], TROUBLES[cell.trouble][0],
            KINDS[cell.kind], _dollars(costs[0]), _dollars(costs[1]), _shown(expected),
        )  # fmt: skip
        yield f"| {' | '.join(row)} |\n"


def _refusals() -> Iterator[str]:
    yield "400 `unsupported_parameter` before anybody is asked; the message names parameter and target, and nothing is charged.\n\n"
    yield "| protocol | target | parameter |\n|---|---|---|\n"
    for refusal in REFUSALS:
        yield f"| {refusal.protocol} | {KINDS[refusal.kind]} | `{refusal.param}` |\n"
