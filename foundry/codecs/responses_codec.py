"""The Responses API as callers speak it: `RESPONSES`, and its side of a translation: `RESPONSES_CALLER`.

What it does not know: the store behind stateful responses (`gateway/stateful`), targets, I/O, money.
"""

from __future__ import annotations

from foundry.codecs.base import SSE, Call
from foundry.codecs.fields import count, flag, model_name, split, text
from foundry.codecs.openai_errors import error_body, error_type
from foundry.codecs.responses_object import write_answer
from foundry.codecs.responses_request import read_request
from foundry.codecs.responses_stream import ResponseWriter
from foundry.codecs.sse import named_event
from foundry.errors import FoundryError, InvalidParameter
from foundry.types.chat import ChatAnswer, ChatRequest
from foundry.types.deployment import Task


class ResponsesCodec:
    """`POST /v1/responses`."""

    name = "responses"
    path = "/v1/responses"
    tasks = frozenset({Task.GENERATE})

    def parse(self, body: bytes, content_type: str) -> Call:
        """Body to call. Raises MalformedBody or InvalidParameter."""
        del content_type  # OpenAI's own endpoint reads JSON whatever the type says
        fields = split(body)
        model = model_name(fields)
        if "input" not in fields and "previous_response_id" not in fields and "conversation" not in fields:
            raise InvalidParameter("'input' is required", param="input")
        return Call(
            model=model,
            stream=flag(fields, "stream"),
            fields=fields,
            wants_usage=True,
            max_output_tokens=count(fields, "max_output_tokens"),
            user=text(fields, "safety_identifier") or text(fields, "user"),
        )

    def stream_type(self, upstream_type: str) -> str:
        """Server-sent events."""
        del upstream_type
        return f"{SSE}; charset=utf-8"

    def error_body(self, error: FoundryError, request_id: str) -> bytes:
        """`{"error": {...}}`."""
        return error_body(error, request_id)

    def error_event(self, error: FoundryError, request_id: str) -> bytes:
        """The event `error`, for streams whose meter has no `failure` of its own: without the stream's state its
        `sequence_number` can only be 0."""
        told = {"code": error.code, "message": error.message, "param": error.param}
        words = {**told, "type": error_type(error.status), "request_id": request_id}
        return named_event("error", {"type": "error", "sequence_number": 0, **told, "error": words})


class ResponsesCaller:
    """Callers that speak the Responses API."""

    def read_request(self, call: Call) -> ChatRequest:
        """The call in neutral terms. Raises InvalidParameter."""
        return read_request(call)

    def write_answer(self, answer: ChatAnswer, call: Call) -> bytes:
        """A whole response."""
        return write_answer(answer, call)

    def writer(self, call: Call) -> ResponseWriter:
        """A fresh writer of events."""
        return ResponseWriter(call)


RESPONSES = ResponsesCodec()
RESPONSES_CALLER = ResponsesCaller()
