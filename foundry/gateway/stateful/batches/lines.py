"""The lines of a batch's input file: read in bounded memory, checked one by one.

What it does not know: what a model makes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container

import msgspec

from foundry.gateway.stateful.files import Files
from foundry.types.batch import MAX_LINES, Batch, BatchLine, LineError

_MAX_ERRORS = 100
_BREATHE_LINES = 32
"""After so many lines the event loop serves others: a live request waits for less than a millisecond."""


class _Line(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct):
    model: str
    stream: bool | None = None


_line = msgspec.json.Decoder(_Line)
_body = msgspec.json.Decoder(_Body)


async def split_lines(
    chunks: AsyncIterator[bytes], max_line_bytes: int
) -> AsyncIterator[tuple[int, bytes | None]]:
    """Line numbers from 1 and the lines that are not blank, without their ends; None for one that is too long."""
    number, held, too_long = 0, bytearray(), False
    async for chunk in chunks:
        pieces = chunk.split(b"\n")
        for piece in pieces[:-1]:
            number += 1
            line = bytes(held) + piece if held else piece
            held.clear()
            if too_long or len(line) > max_line_bytes:
                yield number, None
            elif line.strip():
                yield number, line
            too_long = False
        held += pieces[-1]
        if len(held) > max_line_bytes:
            held.clear()
            too_long = True
    if too_long or held.strip():
        yield number + 1, None if too_long else bytes(held)


def read_line(number: int, line: bytes | None, endpoint: str) -> BatchLine | LineError:
    """One line, or what is wrong with it."""
    if line is None:
        return LineError(
            code="line_too_long", message="this line is longer than a request may be", line=number
        )
    try:
        told = _line.decode(line)
    except msgspec.ValidationError as error:
        return LineError(code="invalid_request", message=f"this line is not a request: {error}", line=number)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return LineError(
            code="invalid_json_line", message=f"this line is not valid JSON: {error}", line=number
        )
    if not told.custom_id:
        return LineError(
            code="missing_custom_id", message="'custom_id' is empty", line=number, param="custom_id"
        )
    if told.method != "POST":
        message = f"'method' is '{told.method[:20]}': it must be POST"
        return LineError(code="invalid_method", message=message, line=number, param="method")
    if told.url != endpoint:
        message = f"'url' is '{told.url[:80]}': the batch is for {endpoint}"
        return LineError(code="mismatched_endpoint", message=message, line=number, param="url")
    return _read_body(number, told)


def _read_body(number: int, told: _Line) -> BatchLine | LineError:
    try:
        body = _body.decode(told.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"'body' is not a request with a model: {error}"
        return LineError(code="invalid_body", message=message, line=number, param="body")
    if body.stream:
        message = "'stream' must not be true in a batch"
        return LineError(code="streaming_not_supported", message=message, line=number, param="body.stream")
    return BatchLine(number=number, custom_id=told.custom_id, model=body.model, body=bytes(told.body))


class InputLines:
    """The input file of one batch."""

    def __init__(self, files: Files, project_id: str, batch: Batch, max_line_bytes: int) -> None:
        self._files = files
        self._project_id = project_id
        self._batch = batch
        self._max_line_bytes = max_line_bytes

    async def raw(self) -> AsyncIterator[tuple[int, bytes | None]]:
        """As `split_lines`, from the start. Raises NotFound when the file is gone."""
        chunks = await self._files.content(self._project_id, self._batch.input_file_id)
        count = 0
        async for number, line in split_lines(chunks, self._max_line_bytes):
            yield number, line
            count += 1
            if count % _BREATHE_LINES == 0:
                await asyncio.sleep(0)

    async def lines(self, without: Container[int]) -> AsyncIterator[BatchLine]:
        """The lines whose numbers are not in `without`."""
        async for number, text in self.raw():
            if number not in without:
                line = read_line(number, text, self._batch.endpoint)
                if isinstance(line, BatchLine):
                    yield line


class Check:
    """What validation finds in a whole file."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._custom_ids: dict[str, int] = {}
        self.errors: list[LineError] = []
        self.total = 0
        self.model: str | None = None

    def add(self, number: int, line: bytes | None) -> bool:
        """One line; False when there is no point in reading on."""
        found = read_line(number, line, self._endpoint)
        self.total += 1
        if isinstance(found, BatchLine):
            self._add_good(found)
        else:
            self.errors.append(found)
        if self.total > MAX_LINES:
            self.errors.append(
                LineError(
                    code="too_many_lines", message=f"a batch has at most {MAX_LINES} lines", line=number
                )
            )
        return len(self.errors) < _MAX_ERRORS and self.total <= MAX_LINES

    def end(self) -> None:
        """The file is read."""
        if not self.total:
            self.errors.append(LineError(code="empty_file", message="the input file has no lines"))

    def _add_good(self, line: BatchLine) -> None:
        self.model = self.model or line.model
        first = self._custom_ids.setdefault(line.custom_id, line.number)
        if first != line.number:
            message = f"'custom_id' is '{line.custom_id[:80]}', as on line {first}: it must be unique"
            self.errors.append(
                LineError(code="duplicate_custom_id", message=message, line=line.number, param="custom_id")
            )
