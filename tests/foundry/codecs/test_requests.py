"""Requests across protocols: what each target is sent, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any  # Any: JSON of tests

import pytest

from foundry.codecs.base import TargetFacts
from foundry.codecs.chat_legs import CHAT_LEGS
from foundry.errors import InvalidParameter, MalformedBody, UnsupportedParameter
from tests.foundry.codecs.test_legs import BY_NAME, call_of
from tests.foundry.codecs.wires import CLAUDE, ENGINE, VENDOR, WEATHER, sent

PNG, PDF = "iVBORw0=", "JVBERi0="
CHAT_TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "d", "parameters": WEATHER, "strict": True},
}


MESSAGES_TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": [
        {"type": "text", "text": "Look"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {"type": "document", "title": "a.pdf",
         "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
    ]},
    {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "text", "text": "Looking", "citations": None},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}, "caller": {"type": "direct"}},
        {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
    ]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t1", "content": [
            {"type": "text", "text": "Rain"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]},
        {"type": "tool_result", "tool_use_id": "t2", "content": "no city", "is_error": True},
        {"type": "text", "text": "And?"},
    ]},
]  # fmt: skip


def test_a_messages_conversation_for_an_engine() -> None:
    call = call_of(
        "messages",
        system=[{"type": "text", "text": "Be", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "brief"}],
        messages=MESSAGES_TURNS,
        tools=[{"name": "weather", "description": "d", "input_schema": WEATHER, "strict": True}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"], temperature=0.5, top_p=0.9, top_k=5,
        metadata={"user_id": "u1"}, thinking={"type": "enabled", "budget_tokens": 2000},
        output_config={"format": {"type": "json_schema", "schema": WEATHER}},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    )  # fmt: skip
    png = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert sent(CHAT_LEGS["messages", "openai"], call, ENGINE) == {
        "model": "smol",
        "messages": [
            {"role": "system", "content": "Be\nbrief"},
            {"role": "user", "content": [
                {"type": "text", "text": "Look"}, png, {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}}]},
            {"role": "assistant", "content": "Looking", "reasoning": "Hm", "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
                {"id": "t2", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "Rain"},
            {"role": "tool", "tool_call_id": "t2", "content": "Error: no city"},
            {"role": "user", "content": [png]},
            {"role": "user", "content": "And?"},
        ],
        "max_tokens": 64, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop": ["END"],
        "thinking_token_budget": 2000,
        "tools": [CHAT_TOOL], "tool_choice": "required", "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": WEATHER}},
        "user": "u1",
        "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }  # fmt: skip


CHAT_TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief"},
    {"role": "user", "content": [
        {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}]},
    {"role": "assistant", "content": None, "refusal": None, "annotations": [],
     "reasoning_details": [{"type": "reasoning.text", "text": "Hm", "signature": "s", "index": 0},
                           {"type": "reasoning.encrypted", "data": "r", "index": 1}],
     "tool_calls": [
         {"id": "call.1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
         {"id": "call.2", "type": "function", "function": {"name": "now", "arguments": ""}}]},
    {"role": "tool", "tool_call_id": "call.1", "content": "Rain"},
    {"role": "tool", "tool_call_id": "call.2", "content": [{"type": "text", "text": "Noon"}]},
    {"role": "developer", "content": "In French"},
    {"role": "user", "content": "And?"},
]  # fmt: skip


def test_a_chat_conversation_for_anthropic() -> None:
    call = call_of(
        "chat",
        stream=False,
        messages=CHAT_TURNS,
        max_completion_tokens=5000, stop="END", temperature=0.5, top_p=0.9,
        tools=[CHAT_TOOL], tool_choice={"type": "function", "function": {"name": "weather"}}, parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER, "strict": True}},
        reasoning_effort="high", user="u1", n=1, store=False, service_tier="auto", logit_bias={}, prompt_cache_key="k",
        presence_penalty=0,
    )  # fmt: skip
    request = CHAT_LEGS["chat", "anthropic"].request(call, CLAUDE)
    assert request.path == "/v1/messages"
    assert request.headers == {"anthropic-version": "2023-06-01"}
    assert json.loads(request.body) == {
        "model": "claude-x",
        "system": [{"type": "text", "text": "Be brief"}, {"type": "text", "text": "In French"}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                {"type": "document", "title": "a.pdf",
                 "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "r"},
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "call_2", "name": "now", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "Rain"}]},
                {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "Noon"}]},
                {"type": "text", "text": "And?"}]},
        ],
        "max_tokens": 5000, "stop_sequences": ["END"], "temperature": 0.5, "top_p": 0.9,
        "tools": [{"name": "weather", "description": "d", "input_schema": WEATHER, "strict": True}],
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": WEATHER}},
        "metadata": {"user_id": "u1"},
    }  # fmt: skip


def test_a_responses_conversation_for_an_engine() -> None:
    call = call_of(
        "responses",
        stream=False,
        instructions="Be brief",
        input=[
            {"role": "user", "content": "Hi"},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
                {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "Looking", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "Rain"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "Sun"}]},
        ],
        tools=[{"type": "function", "name": "weather", "description": "d", "parameters": WEATHER, "strict": True}],
        tool_choice={"type": "function", "name": "weather"}, parallel_tool_calls=True, max_output_tokens=7,
        text={"format": {"type": "json_schema", "name": "w", "schema": WEATHER, "strict": True}, "verbosity": "medium"},
        reasoning={"effort": "low", "summary": "auto"}, include=["reasoning.encrypted_content", "message.output_text.logprobs"],
        top_logprobs=2, truncation="disabled", metadata={"a": "b"}, store=True, previous_response_id="resp_0",
        safety_identifier="u1", prompt_cache_key="k", service_tier="default", temperature=0, top_p=1, background=False,
    )  # fmt: skip
    assert sent(CHAT_LEGS["responses", "openai"], call, ENGINE) == {
        "model": "smol",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "Hi"},
            {"role": "user", "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "auto"}},
                {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}}]},
            {"role": "assistant", "content": "Looking", "reasoning": "Hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
                {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "Rain"},
            {"role": "tool", "tool_call_id": "c2", "content": "Sun"},
        ],
        "max_tokens": 7, "temperature": 0.0, "top_p": 1.0, "logprobs": True, "top_logprobs": 2,
        "reasoning_effort": "low",
        "tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER, "strict": True}},
        "user": "u1",
    }  # fmt: skip


def test_signed_thoughts_survive_the_responses_api() -> None:
    leg = CHAT_LEGS["responses", "anthropic"]
    whole = {"id": "msg_1", "content": [{"type": "thinking", "thinking": "Hm", "signature": "s"},
                                        {"type": "redacted_thinking", "data": "r"},
                                        {"type": "tool_use", "id": "t", "name": "weather", "input": {}}],
             "stop_reason": "tool_use"}  # fmt: skip
    answer = json.loads(leg.answer(call_of("responses"), json.dumps(whole).encode(), "application/json").body)
    again = call_of(
        "responses",
        input=[*answer["output"], {"type": "function_call_output", "call_id": "t", "output": "x"}],
    )
    assert sent(leg, again, CLAUDE)["messages"][0]["content"] == whole["content"]


def test_facts_of_vendors_change_what_is_written() -> None:
    call = call_of("messages", top_k=4, thinking={"type": "enabled", "budget_tokens": 9000},
                   messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": [
                       {"type": "thinking", "thinking": "Hm", "signature": ""}, {"type": "text", "text": "On"}]}])  # fmt: skip
    options = {"max_tokens_field": "max_completion_tokens", "top_k": "yes", "prefill_field": "prefix",
               "reasoning_field": "reasoning_content", "stream_usage": "no"}  # fmt: skip
    body = sent(CHAT_LEGS["messages", "openai"], call, TargetFacts("v/m", "m", options=options))
    assert body["max_completion_tokens"] == 64
    assert body["top_k"] == 4
    assert body["reasoning_effort"] == "medium"
    assert body["messages"][-1] == {
        "role": "assistant",
        "content": "On",
        "reasoning_content": "Hm",
        "prefix": True,
    }
    assert "stream_options" not in body
    engine = sent(CHAT_LEGS["messages", "openai"], call, ENGINE)
    assert engine["continue_final_message"] is True
    assert engine["add_generation_prompt"] is False


@pytest.mark.parametrize(
    ("asked", "options", "expected"),
    [
        ({}, {}, {"max_tokens": 4096}),
        ({}, {"default_max_tokens": "100"}, {"max_tokens": 100}),
        ({"reasoning_effort": "none"}, {}, {"max_tokens": 4096, "thinking": {"type": "disabled"}}),
        ({"reasoning_effort": "minimal"}, {},
         {"max_tokens": 4096, "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ({"reasoning_effort": "high"}, {"thinking": "budget"},
         {"max_tokens": 16384 + 4096, "thinking": {"type": "enabled", "budget_tokens": 16384}}),
        ({"reasoning_effort": "high", "max_tokens": 8000}, {"thinking": "budget"},
         {"max_tokens": 8000, "thinking": {"type": "enabled", "budget_tokens": 4000}}),
    ],
)  # fmt: skip
def test_thinking_for_anthropic(
    asked: dict[str, Any], options: dict[str, str], expected: dict[str, Any]
) -> None:
    body = sent(
        CHAT_LEGS["chat", "anthropic"], call_of("chat", **asked), TargetFacts("a/c", "c", options=options)
    )
    assert {
        name: body[name] for name in ("max_tokens", "thinking", "output_config") if name in body
    } == expected


def test_thought_that_leaves_no_room_for_an_answer_is_refused() -> None:
    facts = TargetFacts("a/c", "c", options={"thinking": "budget"})
    with pytest.raises(InvalidParameter, match="max_tokens"):
        CHAT_LEGS["chat", "anthropic"].request(call_of("chat", reasoning_effort="low", max_tokens=500), facts)


REFUSED: list[tuple[str, str, TargetFacts, str, dict[str, Any]]] = [
    ("chat", "anthropic", CLAUDE, "n", {"n": 2}),
    ("chat", "anthropic", CLAUDE, "seed", {"seed": 1}),
    ("chat", "anthropic", CLAUDE, "logprobs", {"logprobs": True}),
    ("chat", "anthropic", CLAUDE, "presence_penalty", {"presence_penalty": 0.1}),
    ("chat", "anthropic", CLAUDE, "response_format", {"response_format": {"type": "json_object"}}),
    ("chat", "anthropic", CLAUDE, "logit_bias", {"logit_bias": {"1": 2}}),
    ("chat", "anthropic", CLAUDE, "never_heard_of", {"never_heard_of": 1}),
    ("chat", "anthropic", CLAUDE, "store", {"store": True}),
    ("chat", "anthropic", CLAUDE, "tools.custom", {"tools": [{"type": "custom", "custom": {"name": "x"}}]}),
    ("chat", "anthropic", CLAUDE, "messages",
     {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}]}]}),
    ("messages", "openai", VENDOR, "top_k", {"top_k": 3}),
    ("messages", "openai", VENDOR, "tools.web_search_20250305", {"tools": [{"type": "web_search_20250305", "name": "w"}]}),
    ("messages", "openai", VENDOR, "container", {"container": "c"}),
    ("messages", "openai", VENDOR, "context_management",
     {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}),
    ("messages", "openai", VENDOR, "messages",
     {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}),
    ("messages", "openai", VENDOR, "messages.search_result",
     {"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}),
    ("messages", "openai", ENGINE, "speed", {"speed": "fast"}),
    ("responses", "openai", ENGINE, "tools.web_search", {"tools": [{"type": "web_search"}]}),
    ("responses", "openai", ENGINE, "truncation", {"truncation": "auto"}),
    ("responses", "openai", ENGINE, "tool_choice.allowed_tools", {"tool_choice": {"type": "allowed_tools", "tools": []}}),
    ("responses", "openai", ENGINE, "prompt", {"prompt": {"id": "p"}}),
    ("responses", "openai", ENGINE, "input.item_reference", {"input": [{"type": "item_reference", "id": "x"}]}),
    ("responses", "openai", ENGINE, "include.everything", {"include": ["everything"]}),
    ("responses", "openai", ENGINE, "verbosity", {"text": {"verbosity": "high"}}),
    ("responses", "anthropic", CLAUDE, "logprobs", {"top_logprobs": 2}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "wire", "target", "param", "members"), REFUSED, ids=[f"{r[0]}-{r[3]}" for r in REFUSED]
)
def test_what_a_target_has_not_is_refused_by_name(
    protocol: str, wire: str, target: TargetFacts, param: str, members: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        CHAT_LEGS[protocol, wire].request(call_of(protocol, **members), target)
    assert caught.value.param == param
    assert param in caught.value.message
    assert target.target_id in caught.value.message


WRONG: list[tuple[str, str, dict[str, Any]]] = [
    ("chat", "messages", {"messages": []}),
    ("chat", "messages", {"messages": [{"role": "robot", "content": "x"}]}),
    ("chat", "messages", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
    ("chat", "messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "colour": "red"}]}]}),
    ("chat", "messages[0].tool_call_id", {"messages": [{"role": "tool", "content": "x"}]}),
    ("chat", "temperature", {"temperature": "hot"}),
    ("chat", "tools[0]", {"tools": [{"type": "function", "function": {}}]}),
    ("chat", "tools", {"tools": {}}),
    ("chat", "tool_choice", {"tool_choice": "maybe"}),
    ("chat", "stop", {"stop": 3}),
    ("chat", "response_format.json_schema", {"response_format": {"type": "json_schema"}}),
    ("chat", "messages", {"messages": [{"role": "assistant", "tool_calls": [
        {"id": "x", "function": {"name": "f", "arguments": "[1]"}}]}]}),
    ("messages", "messages", {"messages": "x"}),
    ("messages", "messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
    ("messages", "system", {"system": 3}),
    ("messages", "thinking", {"thinking": {"budget_tokens": 3}}),
    ("messages", "output_config", {"output_config": {"effort": "a bit"}}),
    ("responses", "input", {"input": []}),
    ("responses", "input", {"input": [{"role": "robot"}]}),
    ("responses", "text", {"text": {"format": {"type": "yaml"}}}),
    ("responses", "tool_choice", {"tool_choice": "maybe"}),
    ("responses", "reasoning", {"reasoning": {"effort": "lots"}}),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "param", "members"), WRONG)
def test_what_is_wrong_is_named(protocol: str, param: str, members: dict[str, Any]) -> None:
    leg = CHAT_LEGS[protocol, "anthropic" if protocol == "chat" else "openai"]
    with pytest.raises(InvalidParameter) as caught:
        leg.request(call_of(protocol, **members), ENGINE)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("protocol", "param", "body"),
    [
        ("messages", "max_tokens", {"model": "m", "messages": []}),
        ("messages", "max_tokens", {"model": "m", "messages": [], "max_tokens": 0}),
        ("messages", "messages", {"model": "m", "max_tokens": 3}),
        (
            "messages",
            "metadata",
            {"model": "m", "max_tokens": 3, "messages": [], "metadata": {"colour": "red"}},
        ),
        ("messages", "model", {"max_tokens": 3, "messages": []}),
        ("responses", "input", {"model": "m"}),
        ("responses", "stream", {"model": "m", "input": "x", "stream": "yes"}),
        ("count_tokens", "messages", {"model": "m"}),
    ],
)
def test_what_a_codec_refuses(protocol: str, param: str, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter) as caught:
        BY_NAME[protocol].parse(json.dumps(body).encode(), "application/json")
    assert caught.value.param == param


@pytest.mark.parametrize("protocol", BY_NAME)
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff{}", b'{"a":' + b"[" * 200_000])
def test_what_is_not_a_json_object_is_refused(protocol: str, body: bytes) -> None:
    with pytest.raises(MalformedBody):
        BY_NAME[protocol].parse(body, "application/json")


def test_a_codec_reads_what_the_lifecycle_needs() -> None:
    call = call_of("messages", metadata={"user_id": "u1"}, max_tokens=9)
    assert (call.model, call.stream, call.max_output_tokens, call.user) == ("public", True, 9, "u1")
    call = call_of("responses", safety_identifier="u2", max_output_tokens=8)
    assert (call.model, call.stream, call.max_output_tokens, call.user) == ("public", True, 8, "u2")
    assert not call_of("count_tokens").stream
