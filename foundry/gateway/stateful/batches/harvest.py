"""A batch's output and error files, made of its parts. What it does not know: how lines were run."""

from __future__ import annotations

from collections.abc import AsyncIterator

from foundry.gateway.stateful.batches.asking import expired_result
from foundry.gateway.stateful.batches.folder import BatchFolder
from foundry.gateway.stateful.batches.lines import InputLines
from foundry.gateway.stateful.batches.tally import Tally
from foundry.gateway.stateful.files import Files
from foundry.types.batch import Batch, BatchOwner


class Harvest:
    """Both files get ids that come from the batch's, so that making them again after a crash makes the same files."""

    def __init__(
        self, folder: BatchFolder, files: Files, owner: BatchOwner, lines: InputLines, batch: Batch
    ) -> None:
        self._folder = folder
        self._files = files
        self._owner = owner
        self._input = lines
        self._batch = batch

    async def gather(self, tally: Tally, *, expired: bool) -> tuple[str | None, str | None]:
        """Ids of the output and the error file, None for one that would be empty. expired: lines that were not done count as
        failed and say so in the error file."""
        output = await self._file("output", self._results(succeeded=True)) if tally.completed else None
        error = None
        if tally.failed or expired:
            error = await self._file("error", self._errors(tally, expired=expired))
        return output, error

    async def _file(self, kind: str, chunks: AsyncIterator[bytes]) -> str:
        _, _, unique = self._batch.id.partition("_")
        expires_s = self._owner.output_expires_s
        expires_at = None if expires_s is None else (self._batch.finalizing_at or 0) + expires_s
        file = await self._files.write(
            self._owner.project_id,
            chunks,
            filename=f"{self._batch.id}_{kind}.jsonl",
            purpose="batch_output",
            expires_at=expires_at,
            file_id=f"file-{unique}-{kind}",
        )
        return file.id

    async def _results(self, *, succeeded: bool) -> AsyncIterator[bytes]:
        async for result in self._folder.results():
            if result.succeeded == succeeded:
                yield bytes(result.text) + b"\n"

    async def _errors(self, tally: Tally, *, expired: bool) -> AsyncIterator[bytes]:
        async for text in self._results(succeeded=False):
            yield text
        if not expired:
            return
        async for line in self._input.lines(frozenset(tally.numbers)):
            result = expired_result(line, self._batch.id)
            tally.add(result)
            yield bytes(result.text) + b"\n"
