"""Anthropic Messages on both sides of a translation: `MESSAGES_CALLER` and `ANTHROPIC`.

Where both sides speak it, bytes pass through instead (`anthropic_through.py`). What it does not know: other protocols, I/O.
"""

from __future__ import annotations

from foundry.codecs import (
    anthropic_answer,
    anthropic_request,
    anthropic_target_answer,
    anthropic_target_request,
)
from foundry.codecs.anthropic_errors import told
from foundry.codecs.base import SSE, Call, TargetFacts, Told, UpstreamRequest
from foundry.types.chat import ChatAnswer, ChatRequest


class MessagesCaller:
    """Callers that speak Anthropic Messages."""

    def read_request(self, call: Call) -> ChatRequest:
        """The call in neutral terms. Raises InvalidParameter."""
        return anthropic_request.read_request(call)

    def write_answer(self, answer: ChatAnswer, call: Call) -> bytes:
        """A message."""
        return anthropic_answer.write_answer(answer, call)

    def writer(self, call: Call) -> anthropic_answer.MessageWriter:
        """A fresh writer of events."""
        return anthropic_answer.MessageWriter(call)


class Anthropic:
    """Targets that speak Anthropic Messages."""

    def write_request(self, request: ChatRequest, target: TargetFacts) -> UpstreamRequest:
        """The target's request. Raises UnsupportedParameter or InvalidParameter."""
        return anthropic_target_request.write_request(request, target)

    def read_answer(self, body: bytes, content_type: str) -> ChatAnswer:
        """A whole answer. Raises UpstreamBroke."""
        del content_type
        return anthropic_target_answer.read_answer(body)

    def streams(self, content_type: str) -> bool:
        """Server-sent events."""
        return content_type == SSE

    def reader(self) -> anthropic_target_answer.MessageReader:
        """A fresh reader of events."""
        return anthropic_target_answer.MessageReader()

    def told(self, body: bytes) -> Told:
        """Anthropic's error object, or the beginning of whatever came."""
        return told(body)


MESSAGES_CALLER = MessagesCaller()
ANTHROPIC = Anthropic()
