"""What a cell must come to: status, error, outcome, where the counts come from, and the counts, from what the double sends.

Of a cut answer, what is known depends on the wire: engines and Gemini tell running counts, Anthropic its input at the start,
all others nothing before the end; what was not told is counted: a token per content event or per four bytes of text, input by
four bytes of the request. What it does not know: the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from tests.gateway.conformance.cells import Cell
from tests.gateway.conformance.money import Counts, cost_usd
from tests.support.vendor_script import ALL_KINDS, ONE_KIND, THOUGHT, WORDS, Told

_BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Expected:
    """What must be seen and recorded."""

    status: int
    """HTTP, at the caller."""
    outcome: str
    error_code: str = ""
    usage_source: str = "none"
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    input_by_bytes: bool = False
    """The input is estimated by the size of the request."""
    recorded_status: int | None = None
    """None: as at the caller."""

    def counts_of(self, request_bytes: int) -> Counts:
        """For a request of this size."""
        if not self.input_by_bytes:
            return self.counts
        return {**self.counts, "input_tokens": -(-request_bytes // _BYTES_PER_TOKEN)}

    def cost_usd(self, request_bytes: int) -> Decimal:
        """For a request of this size."""
        return cost_usd(self.counts_of(request_bytes))


_NOT_SERVED = Expected(400, "rejected", "protocol_not_served")
_FAILED_WHOLE = {
    "refused": Expected(429, "failed", "upstream_refused"),
    "before": Expected(502, "failed", "upstream_unreachable"),
    "error": Expected(502, "failed", "upstream_refused"),
    "mid": Expected(502, "failed", "upstream_broke"),
    "last": Expected(502, "failed", "upstream_broke"),
    "abort": Expected(0, "aborted", recorded_status=499),
}
_CUT = {"mid": ("failed", "upstream_broke"), "error": ("failed", "upstream_broke"), "last": ("failed", "upstream_broke"),
        "abort": ("aborted", "")}  # fmt: skip


def failure(cell: Cell) -> Expected | None:
    """Of an answer of which the caller gets nothing."""
    if not cell.served:
        return _NOT_SERVED
    if cell.stream and cell.scenario not in ("refused", "before"):
        return None
    return _FAILED_WHOLE.get(cell.scenario)


def ended(cell: Cell, source: str, counts: Counts, *, input_by_bytes: bool = False) -> Expected:
    """Of an answer that began; what was cut is not `reported` but `partial`."""
    outcome, code = _CUT.get(cell.scenario, ("completed", ""))
    if source == "reported" and cell.scenario in _CUT:
        source = "partial"
    return Expected(200, outcome, code, source, counts, input_by_bytes)


def conversation(cell: Cell) -> Expected:
    """Of chat, completions, responses and messages."""
    found = failure(cell)
    if found is not None:
        return found
    told = ONE_KIND if cell.scenario == "completed" else ALL_KINDS
    if cell.scenario == "no-usage":
        return ended(cell, "estimated", {"output_tokens": _counted(cell)}, input_by_bytes=True)
    if cell.scenario not in _CUT:
        return ended(cell, "reported", _told(cell, told, told.output, reasoning=told.thought))
    return _cut(cell, told)


def _cut(cell: Cell, told: Told) -> Expected:
    last = cell.scenario == "last"
    if cell.wire == "openai" and (cell.kind == "own" or last):  # at the end only the end marker is missing
        output = told.output if last else told.thought + cell.words
        return ended(cell, "reported", _told(cell, told, output, reasoning=told.thought))
    if cell.wire == "gemini":  # at the end the last word is missing
        words = cell.words - 1 if last else cell.words
        return ended(cell, "reported", _told(cell, told, told.thought + words, reasoning=told.thought))
    if cell.wire == "anthropic" and last:  # only the end marker is missing
        return ended(cell, "reported", _told(cell, told, told.output, reasoning=told.thought))
    if cell.wire == "anthropic":  # the input was told, the output is counted by us
        return ended(cell, "estimated", _told(cell, told, _counted(cell), reasoning=0))
    return ended(cell, "estimated", {"output_tokens": _counted(cell)}, input_by_bytes=True)


def _told(cell: Cell, told: Told, output: int, *, reasoning: int) -> Counts:
    """In the kinds that the wire knows."""
    counts = {"input_tokens": told.input, "cached_input_tokens": told.cached, "output_tokens": output}
    if cell.wire in ("anthropic", "bedrock"):
        counts["cache_write_tokens"] = told.written
    if cell.wire != "bedrock":
        counts["reasoning_tokens"] = reasoning
    return counts


def _counted(cell: Cell) -> int:
    """Output tokens as we count them: by events where bytes pass through OpenAI's stream, by bytes where they pass through
    another, by the larger of both where they are translated; whole answers by bytes."""
    thinks = cell.wire in ("anthropic", "gemini", "bedrock") or (
        cell.kind == "own" and cell.stream and cell.protocol != "completions"
    )
    said = ((THOUGHT,) if thinks else ()) + WORDS[: cell.words]
    by_bytes = -(-sum(len(piece) for piece in said) // _BYTES_PER_TOKEN)
    if not cell.stream:
        return by_bytes
    if cell.translated:
        return max(len(said), by_bytes)
    return len(said) if cell.wire == "openai" else by_bytes
