"""Images: bodies of all three endpoints, tokens or pictures counted, partial images as events.

The answers have the shapes that OpenAI's API reference documents (gpt-image and dall-e models), with values of our own.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundry.codecs import CODECS, LEGS, multipart
from foundry.codecs.base import JSON, TargetFacts
from foundry.errors import InvalidParameter, MalformedBody, UnsupportedMedia
from foundry.types.usage import UsageCounts
from tests.support.forms import CONTENT_TYPE, form

GENERATION, EDIT = CODECS["/v1/images/generations"], CODECS["/v1/images/edits"]
VARIATION = CODECS["/v1/images/variations"]
PICTURE = ("a.png", b"\x89PNG" * 20)
TOLD = {
    "input_tokens": 50, "output_tokens": 4160, "total_tokens": 4210,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}  # fmt: skip
COUNTS = UsageCounts(input_tokens=50, image_input_tokens=40, output_tokens=4160)


def generation(**fields: Any) -> Any:
    return GENERATION.parse(json.dumps({"model": "public", "prompt": "an otter", **fields}).encode(), JSON)


def counted(answer: object) -> UsageCounts | None:
    return LEGS["image_generation", "openai"].answer(generation(), json.dumps(answer).encode(), JSON).counts


def test_a_generation_goes_on_with_the_targets_model() -> None:
    call = generation(n=2, size="1024x1024", stream=True, user="ann")
    assert (call.stream, call.user, call.estimated) == (True, "ann", UsageCounts(images=2))
    request = LEGS["image_generation", "openai"].request(call, TargetFacts("openai/x", "gpt-image-1"))
    assert request.path == "/v1/images/generations"
    assert json.loads(request.body)["model"] == "gpt-image-1"


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ({"created": 1, "data": [{"b64_json": "aGk="}], "usage": TOLD}, COUNTS),
        ({"data": [], "usage": {**TOLD, "output_tokens_details": {"image_tokens": 4100, "text_tokens": 60}}},
         UsageCounts(input_tokens=50, image_input_tokens=40, output_tokens=4160, image_output_tokens=4100)),
        ({"data": [], "usage": TOLD, "svg_usage": {"model": "x", "input_tokens": 5, "output_tokens": 7, "reasoning_tokens": 3}},
         UsageCounts(input_tokens=55, image_input_tokens=40, output_tokens=4167, reasoning_tokens=3)),
        ({"created": 1, "data": [{"url": "https://a"}, {"url": "https://b"}]}, UsageCounts(images=2)),
        ({"data": [{"url": "https://a"}], "usage": {"cost_in_usd_ticks": 200000000}}, UsageCounts(images=1)),
        ({"images": []}, None),
    ],
)  # fmt: skip
def test_tokens_are_counted_where_they_are_told_and_pictures_else(
    answer: object, counts: UsageCounts | None
) -> None:
    assert counted(answer) == counts


def test_an_edit_is_a_form_with_pictures() -> None:
    body = form(
        ("model", "public"), ("prompt", "more hats"), ("image[]", PICTURE), ("image[]", PICTURE), ("n", "3")
    )
    call = EDIT.parse(body, CONTENT_TYPE)
    assert (call.stream, call.estimated) == (False, UsageCounts(images=3))
    request = LEGS["image_edit", "openai"].request(call, TargetFacts("openai/x", "gpt-image-1"))
    parsed = multipart.parse(request.body, request.content_type)
    assert parsed.text("model") == "gpt-image-1"
    assert [part.size for part in parsed.named("image[]")] == [len(PICTURE[1])] * 2
    same = LEGS["image_edit", "openai"].request(call, TargetFacts("openai/x", "public"))
    assert same.body is body


def test_an_edit_by_links_is_json() -> None:
    body = b'{"model":"public","prompt":"x","image":{"url":"https://a"}}'
    call = EDIT.parse(body, "application/json; charset=utf-8")
    sent = LEGS["image_edit", "openai"].request(call, TargetFacts("xai/x", "theirs"))
    assert (json.loads(sent.body)["model"], sent.content_type) == ("theirs", JSON)


def test_a_variation_needs_a_picture_and_no_prompt() -> None:
    call = VARIATION.parse(form(("model", "dall-e-2"), ("image", PICTURE)), CONTENT_TYPE)
    assert call.estimated == UsageCounts(images=1)
    with pytest.raises(InvalidParameter, match="'image' is required"):
        VARIATION.parse(form(("model", "m")), CONTENT_TYPE)


@pytest.mark.parametrize("n", ["x", "0", "-1", "1e9", "999999999999999999", "²"])
def test_numbers_of_images_that_are_none(n: str) -> None:
    with pytest.raises(InvalidParameter, match="'n' must"):
        EDIT.parse(form(("model", "m"), ("prompt", "x"), ("image", PICTURE), ("n", n)), CONTENT_TYPE)


def test_refusals() -> None:
    with pytest.raises(InvalidParameter, match="'prompt' is required"):
        EDIT.parse(form(("model", "m"), ("image", PICTURE)), CONTENT_TYPE)
    with pytest.raises(InvalidParameter, match="'n' must lie between 1 and 128"):
        generation(n=1_000_000)
    with pytest.raises(UnsupportedMedia):
        EDIT.parse(b"x", "text/plain")
    with pytest.raises(MalformedBody):
        EDIT.parse(b"[]", JSON)


def events(kind: str, *, usage: object = None, images: int = 1) -> list[bytes]:
    partial = {"type": f"{kind}.partial_image", "b64_json": "A" * 200_000, "partial_image_index": 0}
    done: dict[str, Any] = {"type": f"{kind}.completed", "b64_json": "B" * 200_000}
    if usage is not None:
        done["usage"] = usage
    lines = [partial, *[done] * images]
    return [f"event: {line['type']}\ndata: {json.dumps(line)}\n\n".encode() for line in lines]


@pytest.mark.parametrize("size", [1000, 65_536, 10_000_000])
def test_partial_images_pass_and_the_last_is_kept_for_the_end(size: int) -> None:
    partial, done = events("image_generation", usage=TOLD)
    meter = LEGS["image_generation", "openai"].meter(generation(stream=True))
    whole = partial + done
    passed = b"".join(meter.feed(whole[at : at + size]) for at in range(0, len(whole), size))
    assert passed == partial
    assert (meter.started, meter.ended, meter.error) == (True, True, None)
    assert meter.tail() == done
    assert meter.counts() == COUNTS


def test_a_stream_of_several_images_ends_with_the_last_one() -> None:
    partial, first, second = events("image_edit", images=2)
    meter = LEGS["image_edit", "openai"].meter(generation(stream=True, n=2))
    assert meter.feed(partial + first) == partial + first
    assert not meter.ended
    assert meter.feed(second) == b""
    assert meter.ended
    assert meter.tail() == second
    assert meter.counts() == UsageCounts(images=2)


def test_usage_of_several_images_is_added_up() -> None:
    meter = LEGS["image_edit", "openai"].meter(generation(stream=True, n=2))
    for event in events("image_edit", usage=TOLD, images=2):
        meter.feed(event)
    assert meter.counts() == COUNTS + COUNTS


def test_a_stream_with_fewer_images_than_asked_for_ends_by_closing() -> None:
    partial, done = events("image_generation")
    meter = LEGS["image_generation", "openai"].meter(generation(stream=True, n=2))
    assert meter.feed(partial + done) == partial + done
    assert (meter.close(), meter.ended, meter.counts()) == (b"", True, UsageCounts(images=1))


def test_a_stream_that_stops_half_way_is_not_whole() -> None:
    meter = LEGS["image_generation", "openai"].meter(generation(stream=True))
    meter.feed(events("image_generation")[0])
    meter.close()
    assert (meter.started, meter.ended, meter.counts()) == (True, False, None)
