"""What a target has not is refused by name before anybody is asked: requests, and the parameter that the error must name.

What it does not know: how they are sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.gateway.conformance.cells import Cell, Kind, Protocol

PATHS: dict[Protocol, str] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
}
_TURNS = [{"role": "user", "content": "x"}]
_BODIES: dict[Protocol, dict[str, Any]] = {
    "chat": {"messages": _TURNS},
    "responses": {"input": "x"},
    "messages": {"messages": _TURNS, "max_tokens": 64},
    "embeddings": {"input": "x"},
    "rerank": {"query": "q", "documents": ["a"]},
}


@dataclass(frozen=True)
class Refusal:
    """One request with one member too many."""

    protocol: Protocol
    kind: Kind
    param: str
    """As the error names it."""
    members: dict[str, Any] = field(compare=False)

    @property
    def id(self) -> str:
        """Also the request's id."""
        return f"refused-{self.protocol}-{self.kind}-{self.param}"

    @property
    def cell(self) -> Cell:
        """Whose route is asked."""
        return Cell(self.protocol, self.kind, stream=False, scenario="completed")

    def body(self) -> dict[str, Any]:
        """The request."""
        return {"model": self.cell.model, **_BODIES[self.protocol], **self.members}


REFUSALS: tuple[Refusal, ...] = (
    Refusal("chat", "anthropic", "n", {"n": 2}),
    Refusal("chat", "anthropic", "seed", {"seed": 7}),
    Refusal("chat", "anthropic", "logprobs", {"logprobs": True}),
    Refusal("chat", "bedrock", "n", {"n": 2}),
    Refusal("chat", "bedrock", "seed", {"seed": 7}),
    Refusal("chat", "bedrock", "logprobs", {"logprobs": True}),
    Refusal("chat", "gemini", "logit_bias", {"logit_bias": {"1": 1}}),
    Refusal("messages", "openai", "top_k", {"top_k": 5}),
    Refusal("messages", "azure", "top_k", {"top_k": 5}),
    Refusal("responses", "own", "truncation", {"truncation": "auto"}),
    Refusal("responses", "anthropic", "truncation", {"truncation": "auto"}),
    Refusal("embeddings", "bedrock", "input", {"input": ["a", "b"]}),
    Refusal("embeddings", "gemini", "input", {"input": [[1, 2]]}),
    Refusal("rerank", "cohere", "rank_fields", {"rank_fields": ["a"]}),
)
