"""Moderations, classify, rerank and score: what is required, where it goes, what it counts as."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundry.codecs import CODECS, LEGS
from foundry.codecs.base import JSON, TargetFacts
from foundry.errors import InvalidParameter, MalformedBody, UnsupportedMedia, UnsupportedParameter
from foundry.types.deployment import Task
from foundry.types.usage import UsageCounts

PATHS = {
    "/v1/moderations": ("moderations", {"input": "x"}, "/v1/moderations"),
    "/v1/classify": ("classify", {"input": "x"}, "/classify"),
    "/classify": ("classify", {"messages": []}, "/classify"),
    "/v1/rerank": ("rerank", {"query": "q", "documents": ["d"]}, "/v1/rerank"),
    "/rerank": ("rerank", {"query": "q", "documents": ["d"]}, "/v1/rerank"),
    "/v2/rerank": ("rerank", {"query": "q", "documents": ["d"]}, "/v1/rerank"),
    "/v1/score": ("score", {"text_1": "a", "text_2": "b"}, "/score"),
    "/score": ("score", {"queries": "a", "documents": ["b"]}, "/score"),
}


def body_of(fields: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"model": "public", **fields, **more}).encode()


@pytest.mark.parametrize("path", PATHS)
def test_a_request_goes_on_with_the_targets_model(path: str) -> None:
    name, fields, target_path = PATHS[path]
    codec = CODECS[path]
    assert codec.name == name
    call = codec.parse(body_of(fields, top_n=3, user="ann"), JSON)
    assert (call.model, call.stream, call.user) == ("public", False, "ann")
    request = LEGS[name, "openai"].request(call, TargetFacts("t/m", "theirs"))
    assert request.path == target_path
    assert json.loads(request.body) == {**fields, "top_n": 3, "user": "ann", "model": "theirs"}


@pytest.mark.parametrize("path", PATHS)
def test_what_is_missing_is_named(path: str) -> None:
    fields = PATHS[path][1]
    with pytest.raises(InvalidParameter) as caught:
        CODECS[path].parse(b'{"model":"m"}', JSON)
    assert caught.value.param is not None
    assert f"'{caught.value.param}'" in caught.value.message
    for broken in (b"[]", b"{", b'{"model":' + b"[" * 5000, b"\xff"):
        with pytest.raises(MalformedBody):
            CODECS[path].parse(broken, JSON)
    with pytest.raises(InvalidParameter, match="model"):
        CODECS[path].parse(body_of(fields, model=7), JSON)
    with pytest.raises(UnsupportedMedia, match="reads application/json"):
        CODECS[path].parse(body_of(fields), "Multipart/Form-Data; boundary=x")


def test_a_moderation_without_a_model_asks_for_openais_default() -> None:
    call = CODECS["/v1/moderations"].parse(b'{"input":"x"}', JSON)
    assert call.model == "omni-moderation-latest"
    sent = LEGS["moderations", "openai"].request(call, TargetFacts("t/m", call.model)).body
    assert json.loads(sent) == {"input": "x", "model": "omni-moderation-latest"}


def test_embedding_models_serve_rerank_and_score() -> None:
    for path in ("/v1/rerank", "/v1/score"):
        assert CODECS[path].tasks == {Task.RERANK, Task.EMBED}


@pytest.mark.parametrize(
    ("name", "answer", "counts"),
    [
        ("moderations", {"id": "modr-1", "results": []}, UsageCounts()),
        ("moderations", {"results": [], "usage": {"prompt_tokens": 5, "total_tokens": 5}}, UsageCounts(input_tokens=5)),
        ("rerank", {"usage": {"prompt_tokens": 9, "total_tokens": 9}}, UsageCounts(input_tokens=9)),
        ("rerank", {"usage": {"total_tokens": 26}}, UsageCounts(input_tokens=26)),
        ("rerank", {"meta": {"billed_units": {"search_units": 2}}}, UsageCounts(searches=2)),
        ("rerank", {"meta": {"billed_units": {"input_tokens": 7}}}, UsageCounts(input_tokens=7)),
        ("rerank", {"meta": {}, "results": []}, None),
        ("score", {"usage": {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0}}, UsageCounts(input_tokens=4)),
        ("classify", {"usage": "much"}, None),
    ],
)  # fmt: skip
def test_what_was_used(name: str, answer: dict[str, Any], counts: UsageCounts | None) -> None:
    path = next(path for path, codec in CODECS.items() if codec.name == name)
    call = CODECS[path].parse(body_of(PATHS[path][1]), JSON)
    body = json.dumps(answer).encode()
    given = LEGS[name, "openai"].answer(call, body, JSON)
    assert (given.body, given.counts) == (body, counts)


def test_a_parameter_that_the_target_lacks_is_named_with_it() -> None:
    call = CODECS["/v1/rerank"].parse(body_of({"query": "q", "documents": []}, top_n=1), JSON)
    target = TargetFacts("acme/rank", "rank", options={"unsupported.rerank": "return_documents,top_n"})
    with pytest.raises(UnsupportedParameter, match="'top_n' is not something that acme/rank has") as caught:
        LEGS["rerank", "openai"].request(call, target)
    assert caught.value.param == "top_n"


def test_a_target_may_serve_it_elsewhere() -> None:
    call = CODECS["/v1/rerank"].parse(body_of({"query": "q", "documents": []}), JSON)
    target = TargetFacts("acme/rank", "rank", options={"path.rerank": "/ranking"})
    assert LEGS["rerank", "openai"].request(call, target).path == "/ranking"


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b'{"error":{"message":"no","param":"top_n"}}', "no", "top_n"),
        (b'{"error":"plain"}', "plain", None),
        (b'{"message":"cohere"}', "cohere", None),
        (b'{"detail":"Not Found"}', "Not Found", None),
        (b'{"detail":[{"msg":"x"}]}', '[{"msg":"x"}]', None),
        (b"<html>", "<html>", None),
        (b"{}", "{}", None),
    ],
)
def test_a_targets_words(body: bytes, message: str, param: str | None) -> None:
    told = LEGS["rerank", "openai"].told(body)
    assert (told.message, told.param) == (message, param)
