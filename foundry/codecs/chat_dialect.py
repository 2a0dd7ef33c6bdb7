"""OpenAI chat completions on both sides of a translation: `CHAT_CALLER` and `OPENAI_CHAT`.

Where both sides speak it, bytes pass through instead (`openai.py`). What it does not know: other protocols, I/O.
"""

from __future__ import annotations

from foundry.codecs import chat_answer, chat_request, chat_target_answer, chat_target_request
from foundry.codecs.base import SSE, Call, TargetFacts, Told, UpstreamRequest
from foundry.codecs.openai import told
from foundry.types.chat import ChatAnswer, ChatRequest


class ChatCaller:
    """Callers that speak OpenAI chat completions."""

    def read_request(self, call: Call) -> ChatRequest:
        """The call in neutral terms. Raises InvalidParameter."""
        return chat_request.read_request(call)

    def write_answer(self, answer: ChatAnswer, call: Call) -> bytes:
        """A chat completion."""
        return chat_answer.write_answer(answer, call)

    def writer(self, call: Call) -> chat_answer.ChatWriter:
        """A fresh writer of chunks."""
        return chat_answer.ChatWriter(call)


class OpenAIChat:
    """Targets that speak OpenAI chat completions: own engines and compatible vendors."""

    def write_request(self, request: ChatRequest, target: TargetFacts) -> UpstreamRequest:
        """The target's request. Raises UnsupportedParameter."""
        return chat_target_request.write_request(request, target)

    def read_answer(self, body: bytes, content_type: str) -> ChatAnswer:
        """A whole answer. Raises UpstreamBroke."""
        del content_type
        return chat_target_answer.read_answer(body)

    def streams(self, content_type: str) -> bool:
        """Server-sent events."""
        return content_type == SSE

    def reader(self) -> chat_target_answer.ChatReader:
        """A fresh reader of chunks."""
        return chat_target_answer.ChatReader()

    def told(self, body: bytes) -> Told:
        """OpenAI's error object, or the beginning of whatever came."""
        return told(body)


CHAT_CALLER = ChatCaller()
OPENAI_CHAT = OpenAIChat()
