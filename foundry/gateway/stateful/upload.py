"""A multipart body as it comes: its plain fields, and its one file in bounded memory.

What it does not know: where the file goes (`files.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from foundry.errors import BodyTooLarge, InvalidParameter, MalformedBody, UnsupportedMedia
from foundry.gateway.delivery import Receive
from foundry.gateway.exchange import CallerGone

_FILE_FIELD = "file"
_MAX_FIELD_BYTES = 64 * 1024
"""All plain fields together: they hold a purpose and an expiry."""
_FRAMING_BYTES = 16 * 1024
"""Boundaries and headers that the body may have beside its file and its fields."""


class Upload:
    """One body. `begin` reads up to the file, `file` gives it and reads the body to its end; then `fields` are whole."""

    def __init__(self, receive: Receive, content_type: str, *, max_file_bytes: int, silence_s: float) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise UnsupportedMedia(
                f"the content type is '{content_type[:80]}': send multipart/form-data with the parts 'purpose' and 'file'"
            )
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.received_bytes = self.file_bytes = 0
        self._receive = receive
        self._max_file_bytes = max_file_bytes
        self._silence_s = silence_s
        self._more = True
        self._part: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._field: bytearray | None = None
        self._field_bytes = 0
        self._has_file = self._whole = False
        self._pieces: list[bytes] = []
        self._parser = self._make_parser(boundary)

    def _make_parser(self, boundary: bytes) -> MultipartParser:
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise UnsupportedMedia(f"the multipart boundary cannot be read: {error}") from error

    async def begin(self) -> None:
        """Read until the file begins. Raises InvalidParameter when there is none, MalformedBody, BodyTooLarge, CallerGone."""
        while not self._has_file and self._more:
            await self._read()
        if not self._has_file:
            self._require_whole()
            raise InvalidParameter("the part 'file' is missing: send the file with a file name", param="file")

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes; at its end the body is whole. Raises as `begin` does."""
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                yield piece
            if not self._more:
                break
            await self._read()
        self._require_whole()

    def _require_whole(self) -> None:
        if not self._whole:
            raise MalformedBody(
                f"the body ends after {self.received_bytes} bytes without its closing boundary"
            )

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._silence_s):
                message = await self._receive()
        except TimeoutError as error:
            raise MalformedBody(
                f"the body stopped after {self.received_bytes} bytes: nothing came for {self._silence_s:g} s"
            ) from error
        if message["type"] == "http.disconnect":
            raise CallerGone
        data: bytes = message.get("body", b"")
        self._more = bool(message.get("more_body"))
        self.received_bytes += len(data)
        if self.received_bytes > self._max_file_bytes + _MAX_FIELD_BYTES + _FRAMING_BYTES:
            raise self._too_large()
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedBody(f"the multipart body cannot be read: {error}") from error

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the file has at least {self.received_bytes} bytes, the limit is {self._max_file_bytes} bytes",
            param="file",
        )

    def _on_part_begin(self) -> None:
        self._part, self._field = {}, None

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._part[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._part.get(b"content-disposition"))
        name = options.get(b"name", b"").decode(errors="replace")
        filename = options.get(b"filename")
        if name == _FILE_FIELD and filename is not None:
            if self._has_file:
                raise InvalidParameter("there are two parts 'file': upload one file at a time", param="file")
            self._has_file, self.filename = True, filename.decode(errors="replace")
        else:
            self._field = bytearray()
            self._part[b"name"] = name.encode()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self.file_bytes += end - start
            if self.file_bytes > self._max_file_bytes:
                raise self._too_large()
            self._pieces.append(bytes(data[start:end]))
            return
        self._field_bytes += end - start
        if self._field_bytes > _MAX_FIELD_BYTES:
            raise MalformedBody(f"the fields beside the file have more than {_MAX_FIELD_BYTES} bytes")
        self._field += data[start:end]

    def _on_part_end(self) -> None:
        if self._field is not None:
            self.fields[self._part[b"name"].decode()] = self._field.decode(errors="replace")

    def _on_end(self) -> None:
        self._whole = True
