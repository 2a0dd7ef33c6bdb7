"""Forms: where the parts lie, what is replaced, what is refused; never anything but a FoundryError."""

from __future__ import annotations

import json
import random

import pytest

from foundry.codecs import multipart
from foundry.errors import InvalidParameter, InvalidRequest, MalformedBody, UnsupportedMedia
from tests.support.forms import BOUNDARY, CONTENT_TYPE, form

SOUND = b"\x00\r\n--not-it\r\n\xff" * 50
BODY = form(
    ("model", "public"), ("file", ("ä.wav", SOUND)), ("temperature", "0.2"), ("n[]", "1"), ("n[]", "2")
)


def test_parts_are_found_where_they_lie() -> None:
    parsed = multipart.parse(BODY, CONTENT_TYPE)
    assert parsed.body is BODY
    assert [(part.name, part.filename) for part in parsed.parts][:3] == [
        ("model", None), ("file", "ä.wav"), ("temperature", None),
    ]  # fmt: skip
    file = parsed.require_file("file")
    assert BODY[file.start : file.end] == SOUND
    assert parsed.text("model") == "public"
    assert parsed.text("missing") is None
    assert {name: json.loads(bytes(raw)) for name, raw in parsed.fields().items()} == {
        "model": "public", "temperature": "0.2", "n[]": "1",
    }  # fmt: skip


def test_a_field_is_replaced_and_all_else_keeps_its_bytes() -> None:
    written = multipart.parse(BODY, CONTENT_TYPE).written({"model": 'up"stream é'})
    assert written == BODY.replace(b"\r\n\r\npublic\r\n", '\r\n\r\nup"stream é\r\n'.encode())
    again = multipart.parse(written, CONTENT_TYPE)
    assert again.text("model") == 'up"stream é'
    assert written[again.require_file("file").start :].startswith(SOUND)


@pytest.mark.parametrize("preamble", [b"", b"\r\n"])
def test_a_missing_field_is_put_in_front(preamble: bytes) -> None:
    parsed = multipart.parse(preamble + BODY, CONTENT_TYPE)
    again = multipart.parse(parsed.written({"response_format": "json", "model": "m"}), CONTENT_TYPE)
    assert again.text("response_format") == "json"
    assert again.text("model") == "m"
    assert len(again.parts) == len(parsed.parts) + 1
    assert again.require_file("file").size == len(SOUND)


def test_every_copy_of_a_replaced_field_is_replaced() -> None:
    body = form(("model", "a"), ("file", ("f", b"x")), ("model", "b"))
    again = multipart.parse(multipart.parse(body, CONTENT_TYPE).written({"model": "c"}), CONTENT_TYPE)
    assert [again.body[part.start : part.end] for part in again.named("model")] == [b"c", b"c"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([("model", "a"), ("model", "b")], "'model' is given 2 times"),
        ([("model", ("f", b"a"))], "'model' must be a plain field"),
    ],
)
def test_a_field_that_two_readers_could_read_differently_is_refused(
    fields: list[tuple[str, str]], words: str
) -> None:
    with pytest.raises(InvalidParameter, match=words):
        multipart.parse(form(*fields), CONTENT_TYPE).text("model")


def test_text_that_is_no_text_is_refused() -> None:
    body = form(("prompt", "x")).replace(b"\r\n\r\nx", b"\r\n\r\n\xff")
    with pytest.raises(InvalidParameter, match="'prompt' is not UTF-8"):
        multipart.parse(body, CONTENT_TYPE).fields()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([("model", "a")], "'file' is required"),
        ([("file", "inline")], "give the part a filename"),
        ([("file", ("empty.wav", b""))], "'empty.wav' is empty"),
    ],
)
def test_a_file_that_is_not_there(fields: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words) as caught:
        multipart.parse(form(*fields), CONTENT_TYPE).require_file("file")
    assert caught.value.param == "file"


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "text/plain", "multipart/mixed; boundary=x", "ü"]
)
def test_other_content_types_are_unsupported(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia, match="multipart/form-data"):
        multipart.parse(BODY, content_type)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (BODY, "multipart/form-data"),
        (BODY, "multipart/form-data; boundary="),
        (BODY, "multipart/form-data; boundary=" + "x" * 500),
        (BODY, "multipart/form-data; boundary=another"),
        (b"", CONTENT_TYPE),
        (BODY[: len(BODY) // 2], CONTENT_TYPE),
        (form(("model", "a"), closed=False), CONTENT_TYPE),
        (BODY.replace(b"\r\n", b"\n"), CONTENT_TYPE),
        (BODY.replace(b'name="model"', b"nothing"), CONTENT_TYPE),
        (form(*[("a", "b")] * 300), CONTENT_TYPE),
        (b'{"model": "m"}', CONTENT_TYPE),
        (form(("a" * 10_000, "b")), CONTENT_TYPE),
    ],
)
def test_what_cannot_be_read_is_malformed(body: bytes, content_type: str) -> None:
    with pytest.raises(MalformedBody):
        multipart.parse(body, content_type)


def test_a_type_is_read_whatever_its_case() -> None:
    assert (
        multipart.parse(BODY, f'Multipart/Form-Data; charset=utf-8; boundary="{BOUNDARY}"').text("model")
        == "public"
    )


def test_broken_bodies_give_errors_of_ours_only() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        body = bytearray(BODY)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(body))
            match chance.randrange(3):
                case 0:
                    body[at] = chance.randrange(256)
                case 1:
                    del body[at : at + chance.randrange(1, 40)]
                case _:
                    body[at:at] = chance.choice([b"\r\n", b"--", BOUNDARY.encode(), b"\x00", b'"'])
        try:
            parsed = multipart.parse(bytes(body), CONTENT_TYPE)
            parsed.require_file("file")
            parsed.fields()
            multipart.parse(parsed.written({"model": "m", "x": "y"}), CONTENT_TYPE)
        except InvalidRequest:
            continue
