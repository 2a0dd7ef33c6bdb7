"""What is done of a batch so far. What it does not know: where results lie."""

from __future__ import annotations

from foundry.types.batch import BatchUsage, InputDetails, LineResult, OutputDetails, RequestCounts


class Tally:
    """Counts durable results."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.completed = self.failed = 0
        self._input = self._cached = self._output = self._reasoning = 0

    def add(self, result: LineResult) -> None:
        """One result; a line counts once."""
        if result.number in self.numbers:
            return
        self.numbers.add(result.number)
        self.completed += result.succeeded
        self.failed += not result.succeeded
        self._input += result.input_tokens
        self._cached += result.cached_input_tokens
        self._output += result.output_tokens
        self._reasoning += result.reasoning_tokens

    def counts(self, total: int) -> RequestCounts:
        """As the API shows them."""
        return RequestCounts(total, self.completed, self.failed)

    def usage(self) -> BatchUsage:
        """As the API shows it."""
        return BatchUsage(
            self._input,
            self._output,
            self._input + self._output,
            InputDetails(self._cached),
            OutputDetails(self._reasoning),
        )
