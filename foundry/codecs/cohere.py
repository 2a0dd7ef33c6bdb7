"""Cohere as a target: rerank (v2) for callers of `/v1/rerank`.

Callers may send documents as texts or as objects with a `text`, and may want them back (`return_documents`), which v2 has no
more: they are put back here. Charged by search units, which the answer tells. What it does not know: I/O, prices.
"""

from __future__ import annotations

import math
from typing import Any  # Any: an answer that is written once and never looked into

import msgspec

from foundry.codecs.base import Answer, Call, Meter, TargetFacts, Told, UpstreamRequest
from foundry.codecs.fields import flag, member
from foundry.codecs.translate import unsupported
from foundry.errors import InvalidParameter, ProtocolNotServed, UpstreamBroke
from foundry.types.usage import UsageCounts

_CARRIED = ("top_n", "max_tokens_per_doc", "priority")
_KNOWN = frozenset({"model", "query", "documents", "return_documents", "user", *_CARRIED})


class _Document(msgspec.Struct):
    text: str


class _Result(msgspec.Struct):
    index: int
    relevance_score: float


class _Units(msgspec.Struct):
    search_units: float = 0


class _Meta(msgspec.Struct):
    billed_units: _Units | None = None


class _Answer(msgspec.Struct):
    results: list[_Result]
    id: str = ""
    meta: _Meta | None = None


class _Said(msgspec.Struct):
    message: str


_texts = msgspec.json.Decoder(list[str | _Document] | None)
_string = msgspec.json.Decoder(str | None)
_answer = msgspec.json.Decoder(_Answer)
_said = msgspec.json.Decoder(_Said)
_encoder = msgspec.json.Encoder()


class CohereRerank:
    """The leg ("rerank", "cohere")."""

    def request(self, call: Call, target: TargetFacts) -> UpstreamRequest:
        """The request. Raises InvalidParameter or UnsupportedParameter."""
        fields = call.fields
        for name in fields:
            if name not in _KNOWN:
                raise unsupported(name, target)
        query = member(fields, "query", _string, "a string")
        if not query:
            raise InvalidParameter("'query' is required", param="query")
        body: dict[str, object] = {"model": target.model, "query": query, "documents": _documents(call)}
        body.update({name: fields[name] for name in _CARRIED if name in fields})
        return UpstreamRequest(path="/v2/rerank", body=_encoder.encode(body))

    def answer(self, call: Call, body: bytes, content_type: str) -> Answer:
        """Results with the documents, when they were wanted, and search units. Raises UpstreamBroke."""
        del content_type
        try:
            answer = _answer.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UpstreamBroke(f"Cohere's answer cannot be read: {error}") from error
        documents = _documents(call) if flag(call.fields, "return_documents") else None
        results: list[dict[str, Any]] = []
        for result in answer.results:
            entry: dict[str, Any] = {"index": result.index, "relevance_score": result.relevance_score}
            if documents is not None and result.index < len(documents):
                entry["document"] = {"text": documents[result.index]}
            results.append(entry)
        units = answer.meta.billed_units if answer.meta else None
        searches = math.ceil(units.search_units) if units else None
        written: dict[str, Any] = {"id": answer.id, "model": call.model, "results": results}
        if searches is not None:
            written["meta"] = {"billed_units": {"search_units": searches}}
        counts = None if searches is None else UsageCounts(searches=searches)
        return Answer(body=_encoder.encode(written), counts=counts)

    def streams(self, content_type: str) -> bool:
        """Never."""
        del content_type
        return False

    def meter(self, call: Call) -> Meter:
        """Rerank does not stream. Raises ProtocolNotServed."""
        raise ProtocolNotServed(
            f"rerank by '{call.model}' cannot be streamed: leave 'stream' out", param="stream"
        )

    def told(self, body: bytes) -> Told:
        """An error's words."""
        try:
            return Told(_said.decode(body).message)
        except (msgspec.DecodeError, RecursionError):
            return Told(body.decode(errors="replace"))


COHERE_RERANK = CohereRerank()


def _documents(call: Call) -> list[str]:
    found = member(call.fields, "documents", _texts, 'a list of texts, or of objects such as {"text": "..."}')
    if not found:
        raise InvalidParameter("'documents' must hold at least one text", param="documents")
    return [document if isinstance(document, str) else document.text for document in found]
