"""`multipart/form-data` bodies: where each part lies, read without copying any; fields replaced with one copy of the whole.

python-multipart finds the parts and says where they begin and end; the caller's boundary is kept. What it does not know:
any endpoint's fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from foundry.errors import InvalidParameter, MalformedBody, UnsupportedMedia

FORM = "multipart/form-data"
_MAX_PARTS = 256
"""Far above any endpoint's fields; bounds the work for a body that is all boundaries."""
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Part:
    """One part: the span of its content in the body, which is empty when `start == end`."""

    name: str = ""
    filename: str | None = None
    """None: a plain field."""
    start: int = 0
    end: int = 0

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Form:
    """A parsed body: `body` is the caller's own bytes."""

    body: bytes
    boundary: bytes
    parts: tuple[Part, ...]

    def named(self, name: str) -> list[Part]:
        """Every part with that name, in order."""
        return [part for part in self.parts if part.name == name]

    def text(self, name: str) -> str | None:
        """A plain field's value, None when it is absent. Raises InvalidParameter when it is given twice, is a file or
        not UTF-8: what reads the form behind us must not read another value than we did."""
        found = self.named(name)
        if not found:
            return None
        if len(found) > 1:
            raise InvalidParameter(f"'{name}' is given {len(found)} times", param=name)
        if found[0].filename is not None:
            raise InvalidParameter(f"'{name}' must be a plain field, not a file", param=name)
        return self._value(found[0])

    def require_file(self, *names: str) -> Part:
        """The first file with one of these names. Raises InvalidParameter when there is none or it is empty."""
        found = next((part for part in self.parts if part.name in names), None)
        if found is None:
            raise InvalidParameter(f"'{names[0]}' is required: attach a file", param=names[0])
        if found.filename is None:
            raise InvalidParameter(f"'{names[0]}' must be a file: give the part a filename", param=names[0])
        if not found.size:
            raise InvalidParameter(f"the file '{found.filename}' is empty", param=names[0])
        return found

    def fields(self) -> dict[str, msgspec.Raw]:
        """The plain fields, each value as a JSON string; of a repeated one the first."""
        made: dict[str, msgspec.Raw] = {}
        for part in self.parts:
            if part.filename is None and part.name not in made:
                made[part.name] = msgspec.Raw(_encode(self._value(part)))
        return made

    def written(self, changes: Mapping[str, str]) -> bytes:
        """The body with these fields set: replaced where they stand, else put in front. Everything else is as it came."""
        first = self.body.index(b"--" + self.boundary)
        pending, at, view = dict(changes), first, memoryview(self.body)
        pieces: list[bytes | memoryview] = []
        for part in self.parts:
            if part.name in changes and part.filename is None and part.size:
                pending.pop(part.name, None)
                pieces += (view[at : part.start], changes[part.name].encode())
                at = part.end
        added = [_field(self.boundary, name, value) for name, value in pending.items()]
        return b"".join((view[:first], *added, *pieces, view[at:]))

    def _value(self, part: Part) -> str:
        try:
            return str(memoryview(self.body)[part.start : part.end], "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidParameter(f"'{part.name}' is not UTF-8 text", param=part.name) from error


@dataclass(slots=True)
class _Collector:
    """Receives python-multipart's callbacks. The body is written in one piece, so each content comes in one piece too."""

    parts: list[Part] = field(default_factory=list[Part])
    whole: bool = False
    header: bytes = b""
    disposition: bytes = b""

    def on_part_begin(self) -> None:
        self.parts.append(Part())
        self.disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header = data[start:end].lower()

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        if self.header == b"content-disposition":
            self.disposition = data[start:end]

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self.disposition)
        name, filename = options.get(b"name"), options.get(b"filename")
        if name is None:
            raise MalformedBody(
                f"part {len(self.parts)} of the form has no name: give it a content-disposition"
            )
        self.parts[-1].name = name.decode(errors="replace")
        self.parts[-1].filename = None if filename is None else filename.decode(errors="replace")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        del data
        self.parts[-1].start, self.parts[-1].end = start, end

    def on_end(self) -> None:
        self.whole = True


def parse(body: bytes, content_type: str) -> Form:
    """Body to form. Raises UnsupportedMedia when it is no multipart form, MalformedBody when it cannot be read."""
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if kind.decode("latin-1") != FORM:
        given = kind.decode("latin-1") or "no content type"
        raise UnsupportedMedia(f"this endpoint reads {FORM} with a file, not {given}")
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise MalformedBody("the content-type names no boundary: let the HTTP client set it")
    if body.count(b"--" + boundary) > _MAX_PARTS:
        raise MalformedBody(f"the form has more than {_MAX_PARTS} parts")
    collector = _Collector()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.on_part_begin,
                "on_header_field": collector.on_header_field,
                "on_header_value": collector.on_header_value,
                "on_headers_finished": collector.on_headers_finished,
                "on_part_data": collector.on_part_data,
                "on_end": collector.on_end,
            },
        )
        parser.write(body)
    except FormParserError as error:
        raise MalformedBody(f"the form cannot be read: {error}") from error
    if not collector.whole:
        raise MalformedBody("the form is cut off: its closing boundary is missing")
    return Form(body, boundary, tuple(collector.parts))


def _field(boundary: bytes, name: str, value: str) -> bytes:
    head = b'--%b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n' % (boundary, name.encode())
    return head + value.encode() + b"\r\n"
