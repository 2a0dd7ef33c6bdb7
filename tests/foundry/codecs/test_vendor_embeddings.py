"""Embeddings and rerank by vendors with protocols of their own, over loopback, in OpenAI's and `/v1/rerank`'s shapes."""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from typing import Any

import msgspec
import pytest

from foundry.codecs.base import Call, TargetFacts
from foundry.codecs.bedrock_embeddings import BEDROCK_EMBEDDINGS
from foundry.codecs.cohere import COHERE_RERANK
from foundry.codecs.gemini_embeddings import GEMINI_EMBEDDINGS
from foundry.codecs.vendor_embeddings import EmbeddingLeg
from foundry.codecs.vendor_legs import VENDOR_LEGS
from foundry.errors import InvalidParameter, ProtocolNotServed, UnsupportedParameter, UpstreamBroke
from foundry.types.usage import UsageCounts

GEMINI = TargetFacts("gemini/e", "gemini-embedding-2")
TITAN = TargetFacts("bedrock/titan", "amazon.titan-embed-text-v2:0")
COHERE = TargetFacts("bedrock/cohere", "cohere.embed-v4:0")
RERANK = TargetFacts("cohere/rerank", "rerank-v3.5")


def call(**fields: Any) -> Call:
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    return Call(model="public", stream=False, fields=raw)


def sent(leg: EmbeddingLeg, target: TargetFacts, **fields: Any) -> tuple[str, dict[str, Any]]:
    request = leg.request(call(**fields), target)
    return request.path, json.loads(request.body)


def test_gemini_embeds_all_texts_in_one_call() -> None:
    path, body = sent(
        GEMINI_EMBEDDINGS, GEMINI, input=["a", "b"], dimensions=256, task_type="RETRIEVAL_QUERY"
    )
    assert path == "/v1beta/models/gemini-embedding-2:batchEmbedContents"
    shared = {
        "model": "models/gemini-embedding-2",
        "outputDimensionality": 256,
        "taskType": "RETRIEVAL_QUERY",
    }
    assert body == {"requests": [{**shared, "content": {"parts": [{"text": text}]}} for text in ("a", "b")]}


def test_titan_takes_one_text_and_cohere_many() -> None:
    path, body = sent(BEDROCK_EMBEDDINGS, TITAN, input="a", dimensions=256)
    assert path == "/model/amazon.titan-embed-text-v2%3A0/invoke"
    assert body == {"inputText": "a", "dimensions": 256}
    _, body = sent(BEDROCK_EMBEDDINGS, COHERE, input=["a", "b"], input_type="search_query", dimensions=512)
    assert body == {
        "texts": ["a", "b"], "input_type": "search_query", "embedding_types": ["float"], "output_dimension": 512,
    }  # fmt: skip
    with pytest.raises(UnsupportedParameter, match="bedrock/titan"):
        sent(BEDROCK_EMBEDDINGS, TITAN, input=["a", "b"])


@pytest.mark.parametrize(
    ("leg", "body", "counts"),
    [
        (GEMINI_EMBEDDINGS, {"embeddings": [{"values": [0.5, -0.25]}]}, None),
        (
            GEMINI_EMBEDDINGS,
            {"embeddings": [{"values": [0.5, -0.25]}], "usageMetadata": {"promptTokenCount": 3}},
            UsageCounts(input_tokens=3),
        ),
        (
            BEDROCK_EMBEDDINGS,
            {
                "embedding": [0.5, -0.25],
                "inputTextTokenCount": 7,
                "embeddingsByType": {"float": [0.5, -0.25]},
            },
            UsageCounts(input_tokens=7),
        ),
        (BEDROCK_EMBEDDINGS, {"id": "x", "embeddings": {"float": [[0.5, -0.25]]}, "texts": ["a"]}, None),
        (BEDROCK_EMBEDDINGS, {"id": "x", "embeddings": [[0.5, -0.25]], "texts": ['"embedding"']}, None),
    ],
)
def test_answers_have_openais_shape(
    leg: EmbeddingLeg, body: dict[str, Any], counts: UsageCounts | None
) -> None:
    answer = leg.answer(call(input="a"), json.dumps(body).encode(), "application/json")
    assert answer.counts == counts
    told = counts.input_tokens if counts else 0
    assert json.loads(answer.body) == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}],
        "model": "public",
        "usage": {"prompt_tokens": told, "total_tokens": told},
    }
    packed = leg.answer(
        call(input="a", encoding_format="base64"), json.dumps(body).encode(), "application/json"
    )
    (entry,) = json.loads(packed.body)["data"]
    assert struct.unpack("<2f", b64decode(entry["embedding"])) == (0.5, -0.25)


@pytest.mark.parametrize("leg", [GEMINI_EMBEDDINGS, BEDROCK_EMBEDDINGS])
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"input": []}, InvalidParameter),
        ({"input": None}, InvalidParameter),
        ({"input": {"a": 1}}, InvalidParameter),
        ({"input": [1, 2]}, UnsupportedParameter),
        ({"input": [[1], [2]]}, UnsupportedParameter),
        ({"input": "a", "encoding_format": "int8"}, InvalidParameter),
        ({"input": "a", "truncate": "END"}, UnsupportedParameter),
        ({"input": "a", "dimensions": "big"}, InvalidParameter),
    ],
)
def test_what_cannot_be_embedded_is_named(
    leg: EmbeddingLeg, fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        leg.request(call(**fields), TITAN)


@pytest.mark.parametrize("leg", [GEMINI_EMBEDDINGS, BEDROCK_EMBEDDINGS, COHERE_RERANK])
def test_unreadable_answers_break_and_nothing_streams(leg: Any) -> None:
    asked = call(input="a", query="q", documents=["a"])
    with pytest.raises(UpstreamBroke):
        leg.answer(asked, b"<html>", "text/html")
    with pytest.raises(ProtocolNotServed):
        leg.meter(asked)
    assert not leg.streams("text/event-stream")


def test_rerank_sends_texts_and_gives_documents_back_when_asked() -> None:
    asked = call(
        model="public", query="q", documents=["a", {"text": "b"}], top_n=1, return_documents=True, user="u"
    )
    request = COHERE_RERANK.request(asked, RERANK)
    assert request.path == "/v2/rerank"
    assert json.loads(request.body) == {
        "model": "rerank-v3.5",
        "query": "q",
        "documents": ["a", "b"],
        "top_n": 1,
    }
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 2}}
    body = {"id": "1", "results": [{"index": 1, "relevance_score": 0.9}], "meta": meta}
    answer = COHERE_RERANK.answer(asked, json.dumps(body).encode(), "application/json")
    assert answer.counts == UsageCounts(searches=2)
    assert json.loads(answer.body) == {
        "id": "1",
        "model": "public",
        "results": [{"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}],
        "meta": {"billed_units": {"search_units": 2}},
    }
    bare = COHERE_RERANK.answer(
        call(query="q", documents=["a", "b"]), json.dumps(body | {"meta": {}}).encode(), ""
    )
    assert bare.counts is None
    assert "document" not in json.loads(bare.body)["results"][0]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"documents": ["a"]}, InvalidParameter),
        ({"query": "q"}, InvalidParameter),
        ({"query": "q", "documents": []}, InvalidParameter),
        ({"query": "q", "documents": [{"title": "x"}]}, InvalidParameter),
        ({"query": "q", "documents": ["a"], "rank_fields": ["x"]}, UnsupportedParameter),
    ],
)
def test_what_cannot_be_ranked_is_named(fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        COHERE_RERANK.request(call(**fields), RERANK)


def test_the_table_of_legs_has_every_pair() -> None:
    chats = {(caller, wire) for caller in ("chat", "messages", "responses") for wire in ("gemini", "bedrock")}
    others = {("embeddings", "gemini"), ("embeddings", "bedrock"), ("rerank", "cohere")}
    assert set(VENDOR_LEGS) == chats | others
