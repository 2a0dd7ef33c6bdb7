"""Conversations as the official SDKs have them: chat, completions and responses by `openai`, messages by `anthropic`.

Each function sends one cell's request and fills in what was seen as it comes, so that it is there however the request ends.
What it does not know: what should come.
"""

from __future__ import annotations

from typing import Any  # Any: what SDKs parse is asserted on, not relied upon

import anthropic
import openai
from openai.types.responses import Response, ResponseFailedEvent

from tests.gateway.conformance.cells import Cell
from tests.gateway.conformance.seen import REQUEST_ID, Seen

_PROMPT = "Count to three."
_OPTIONS: Any = {"include_usage": True}


def extra(cell: Cell) -> dict[str, str]:
    """Headers that make the request findable."""
    return {REQUEST_ID: cell.id}


async def chat(client: openai.AsyncOpenAI, cell: Cell, seen: Seen) -> None:
    turns: Any = [{"role": "user", "content": _PROMPT}]
    if not cell.stream:
        whole = await client.chat.completions.create(
            model=cell.model, messages=turns, extra_headers=extra(cell)
        )
        assert (whole.object, whole.choices[0].finish_reason) == ("chat.completion", "stop")
        seen.text, seen.usage = whole.choices[0].message.content or "", _usage(whole.usage)
        return
    stream = await client.chat.completions.create(
        model=cell.model, messages=turns, stream=True, stream_options=_OPTIONS, extra_headers=extra(cell)
    )
    words = 0
    async for chunk in stream:
        assert chunk.object == "chat.completion.chunk"
        seen.usage = _usage(chunk.usage) or seen.usage
        for choice in chunk.choices:
            seen.text += choice.delta.content or ""
            words += bool(choice.delta.content)
        if seen.stops(cell, words):
            break
    await stream.close()


async def completions(client: openai.AsyncOpenAI, cell: Cell, seen: Seen) -> None:
    if not cell.stream:
        whole = await client.completions.create(model=cell.model, prompt=_PROMPT, extra_headers=extra(cell))
        assert (whole.object, whole.choices[0].finish_reason) == ("text_completion", "stop")
        seen.text, seen.usage = whole.choices[0].text, _usage(whole.usage)
        return
    stream = await client.completions.create(
        model=cell.model, prompt=_PROMPT, stream=True, stream_options=_OPTIONS, extra_headers=extra(cell)
    )
    words = 0
    async for chunk in stream:
        seen.usage = _usage(chunk.usage) or seen.usage
        for choice in chunk.choices:
            seen.text += choice.text
            words += bool(choice.text)
        if seen.stops(cell, words):
            break
    await stream.close()


async def responses(client: openai.AsyncOpenAI, cell: Cell, seen: Seen) -> None:
    if not cell.stream:
        whole = await client.responses.create(model=cell.model, input=_PROMPT, extra_headers=extra(cell))
        assert (whole.object, whole.status, whole.model) == ("response", "completed", cell.model)
        seen.text, seen.usage = whole.output_text, _response_usage(whole)
        return
    stream = await client.responses.create(
        model=cell.model, input=_PROMPT, stream=True, extra_headers=extra(cell)
    )
    words = 0
    async for event in stream:
        if event.type == "response.output_text.delta":
            seen.text += event.delta
            words += 1
        elif event.type == "response.completed":
            assert event.response.output_text == seen.text
            seen.usage = _response_usage(event.response)
        elif isinstance(event, ResponseFailedEvent):
            assert event.response.error is not None
            seen.error_code, seen.error_message = event.response.error.code, event.response.error.message
        if seen.stops(cell, words):
            break
    await stream.close()


async def messages(client: anthropic.AsyncAnthropic, cell: Cell, seen: Seen) -> None:
    turns: Any = [{"role": "user", "content": _PROMPT}]
    if not cell.stream:
        whole = await client.messages.create(
            model=cell.model, max_tokens=64, messages=turns, extra_headers=extra(cell)
        )
        assert (whole.type, whole.role, whole.stop_reason) == ("message", "assistant", "end_turn")
        seen.text = "".join(block.text for block in whole.content if block.type == "text")
        seen.usage = _message_usage(whole.usage)
        return
    stream = await client.messages.create(
        model=cell.model, max_tokens=64, messages=turns, stream=True, extra_headers=extra(cell)
    )
    words, begun = 0, None
    async for event in stream:
        if event.type == "message_start":
            begun = event.message.usage
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            seen.text += event.delta.text
            words += 1
        elif event.type == "message_delta":
            seen.usage = _message_usage(event.usage, begun)
        if seen.stops(cell, words):
            break
    await stream.close()


def _usage(usage: Any) -> dict[str, int] | None:
    if usage is None:
        return None
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "cached_input_tokens": (prompt.cached_tokens or 0) if prompt else 0,
        "reasoning_tokens": (completion.reasoning_tokens or 0) if completion else 0,
    }


def _response_usage(response: Response) -> dict[str, int] | None:
    usage = response.usage
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.input_tokens_details.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
    }


def _message_usage(usage: Any, begun: Any = None) -> dict[str, int] | None:
    """Anthropic's input leaves out what a cache gave or took; a stream's end may leave out what its start has told."""
    if usage is None:
        return None

    def told(name: str) -> int:
        value = getattr(usage, name)
        return (getattr(begun, name) if value is None and begun is not None else value) or 0

    cached, written = told("cache_read_input_tokens"), told("cache_creation_input_tokens")
    return {
        "input_tokens": told("input_tokens") + cached + written,
        "cached_input_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": usage.output_tokens,
    }
