"""Gemini's requests and answers, after the examples of its public reference."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from foundry.codecs.base import TargetFacts
from foundry.codecs.gemini import GEMINI
from foundry.codecs.gemini_ids import seal, unseal
from foundry.errors import InvalidParameter, UnsupportedParameter, UpstreamBroke
from foundry.types.chat import (
    Audio,
    ChatEvent,
    ChatRequest,
    Counted,
    Ended,
    Failed,
    File,
    Finished,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    ReasoningDelta,
    Started,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
)
from foundry.types.usage import UsageCounts

TARGET = TargetFacts("gemini/g3", "gemini-3-flash", options={"thinking": "level"})
OLDER = TargetFacts("gemini/g25", "gemini-2.5-flash", options={"thinking": "budget"})
PLAIN = TargetFacts("gemini/g2", "gemini-2.0-flash")
WEATHER = Tool("weather", "now", msgspec.Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))
HELLO = Message("user", (Text("hello"),))


def written(request: ChatRequest, target: TargetFacts = TARGET) -> dict[str, Any]:
    return json.loads(GEMINI.write_request(request, target).body)


def asked(**fields: Any) -> ChatRequest:
    fields.setdefault("messages", (HELLO,))
    return ChatRequest(**fields)


def events(*chunks: dict[str, Any], close: bool = True, step: int = 5) -> list[ChatEvent]:
    """What a stream of chunks means, cut into pieces of `step` bytes."""
    data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)
    reader = GEMINI.reader()
    found = [event for at in range(0, len(data), step) for event in reader.feed(data[at : at + step])]
    return [*found, *(reader.close() if close else ())]


def candidate(*parts: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"content": {"parts": list(parts), "role": "model"}, "index": index, "finishReason": finish}


def test_paths_name_model_and_verb() -> None:
    assert GEMINI.write_request(asked(), TARGET).path == "/v1beta/models/gemini-3-flash:generateContent"
    tuned = TargetFacts("gemini/t", "tunedModels/mine", options={"api_version": "v1"})
    streamed = GEMINI.write_request(asked(stream=True), tuned)
    assert streamed.path == "/v1/tunedModels/mine:streamGenerateContent?alt=sse"


def test_a_whole_request() -> None:
    body = written(
        asked(
            messages=(Message("system", (Text("be brief"),)), Message("developer", (Text("be kind"),)), HELLO),
            max_output_tokens=7, temperature=0.5, top_p=0.9, top_k=3, stop=("a", "b"), n=2, seed=11, presence_penalty=0.1,
            frequency_penalty=0.2, logprobs=True, top_logprobs=3, tools=(WEATHER,), tool_choice=ToolChoice("required"),
            output_format=OutputFormat("json_schema", schema=msgspec.Raw(b'{"type":"object"}')),
        )
    )  # fmt: skip
    assert body["systemInstruction"] == {"parts": [{"text": "be brief"}, {"text": "be kind"}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hello"}]}]
    assert body["generationConfig"] == {
        "maxOutputTokens": 7, "temperature": 0.5, "topP": 0.9, "topK": 3, "stopSequences": ["a", "b"], "candidateCount": 2,
        "seed": 11, "presencePenalty": 0.1, "frequencyPenalty": 0.2, "responseLogprobs": True, "logprobs": 3,
        "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
    }  # fmt: skip
    (declaration,) = body["tools"][0]["functionDeclarations"]
    assert declaration["parametersJsonSchema"]["properties"] == {"city": {"type": "string"}}
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}


@pytest.mark.parametrize(
    ("choice", "strict", "expected"),
    [
        (ToolChoice("none"), None, {"mode": "NONE"}),
        (ToolChoice("auto"), None, {"mode": "AUTO"}),
        (None, True, {"mode": "VALIDATED"}),
        (ToolChoice("named", "weather"), None, {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_tool_choices(choice: ToolChoice | None, strict: bool | None, expected: dict[str, Any]) -> None:
    tool = msgspec.structs.replace(WEATHER, strict=strict)
    body = written(asked(tools=(tool,), tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": expected}


def test_pictures_sound_and_files() -> None:
    parts = (
        Image(data_base64="aGk=", media_type="image/webp"),
        Image(url="https://x.example/cat.png?size=1"),
        Audio("aGk=", "wav"),
        File(data_base64="aGk=", media_type="application/pdf"),
        File(file_id="https://generativelanguage.googleapis.com/v1beta/files/abc", filename="a.pdf"),
    )
    (turn,) = written(asked(messages=(Message("user", parts),)))["contents"]
    assert turn["parts"] == [
        {"inlineData": {"mimeType": "image/webp", "data": "aGk="}},
        {"fileData": {"fileUri": "https://x.example/cat.png?size=1", "mimeType": "image/png"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
        {
            "fileData": {
                "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
                "mimeType": "application/pdf",
            }
        },
    ]


def test_calls_and_their_answers_go_back_with_names_and_signatures() -> None:
    signed = seal("fcall_1", "AB+/cd==")
    messages = (
        HELLO,
        Message(
            "assistant",
            (
                Reasoning("hm", signature="from-another-vendor"),
                ToolCall(signed, "weather", '{"city":"Bern"}'),
                ToolCall("toolu_2", "weather", '{"city":"Rom"}'),
            ),
        ),
        Message("tool", (ToolResult(signed, (Text('{"c":4}'),)),)),
        Message("tool", (ToolResult("toolu_2", (Text("warm"),), is_error=True),)),
    )
    _, model, user = written(asked(messages=messages))["contents"]
    assert model["parts"] == [
        {"functionCall": {"name": "weather", "args": {"city": "Bern"}}, "thoughtSignature": "AB+/cd=="},
        {"functionCall": {"name": "weather", "args": {"city": "Rom"}, "id": "toolu_2"}},
    ]
    assert user["parts"] == [
        {"functionResponse": {"name": "weather", "response": {"c": 4}}},
        {"functionResponse": {"name": "weather", "response": {"error": "warm"}, "id": "toolu_2"}},
    ]


def test_a_call_that_another_model_made_gets_the_stand_in_for_a_signature() -> None:
    made = Message("assistant", (ToolCall("call_9", "weather", "{}"),))
    assert written(asked(messages=(HELLO, made)))["contents"][1]["parts"][0]["thoughtSignature"] == (
        "skip_thought_signature_validator"
    )
    assert "thoughtSignature" not in written(asked(messages=(HELLO, made)), OLDER)["contents"][1]["parts"][0]


def test_a_texts_signature_returns_to_its_text() -> None:
    parts = (Reasoning("hm", signature="gemini:c2ln"), Text("yes"))
    (_, turn) = written(asked(messages=(HELLO, Message("assistant", parts))))["contents"]
    assert turn["parts"] == [{"text": "yes", "thoughtSignature": "c2ln"}]


@pytest.mark.parametrize("signature", [None, "", "AA==", "AAA=", "a+/b"])
def test_sealed_ids_open_again(signature: str | None) -> None:
    sealed = seal("fcall_x", signature)
    assert unseal(sealed) == ("fcall_x", signature)
    assert sealed.replace("_", "").replace("-", "").isalnum()


@pytest.mark.parametrize(
    ("fields", "target", "expected"),
    [
        ({"reasoning_effort": "low"}, TARGET, {"thinkingLevel": "low", "includeThoughts": True}),
        ({"reasoning_effort": "medium"}, OLDER, {"thinkingBudget": 8192, "includeThoughts": True}),
        ({"reasoning_effort": "none"}, OLDER, {"thinkingBudget": 0, "includeThoughts": False}),
        ({"reasoning_budget_tokens": 512}, OLDER, {"thinkingBudget": 512, "includeThoughts": True}),
    ],
)
def test_thinking(fields: dict[str, Any], target: TargetFacts, expected: dict[str, Any]) -> None:
    assert written(asked(**fields), target)["generationConfig"]["thinkingConfig"] == expected


@pytest.mark.parametrize(
    ("fields", "target", "param"),
    [
        ({"reasoning_effort": "low"}, PLAIN, "reasoning_effort"),
        ({"reasoning_effort": "none"}, TARGET, "reasoning_effort"),
        ({"reasoning_effort": "max"}, OLDER, "reasoning_effort"),
        ({"tools": (WEATHER,), "parallel_tool_calls": False}, TARGET, "parallel_tool_calls"),
        ({"others": {"logit_bias": msgspec.Raw(b"{}")}}, TARGET, "logit_bias"),
        ({"prefill": True}, TARGET, "messages"),
    ],
)
def test_what_it_has_not_is_named_with_the_target(
    fields: dict[str, Any], target: TargetFacts, param: str
) -> None:
    with pytest.raises(UnsupportedParameter, match=target.target_id) as caught:
        written(asked(**fields), target)
    assert caught.value.param == param


def test_its_own_members_and_hints_pass() -> None:
    others = {"safety_settings": msgspec.Raw(b"[1]"), "prompt_cache_key": msgspec.Raw(b'"k"')}
    body = written(asked(others=others))
    assert body["safetySettings"] == [1]
    assert "prompt_cache_key" not in body


@pytest.mark.parametrize(
    "messages",
    [
        (HELLO, Message("tool", (ToolResult("nobody", (Text("x"),)),))),
        (HELLO, Message("assistant", (ToolCall("c", "weather", "not json"),))),
    ],
)
def test_broken_conversations_are_the_callers_fault(messages: tuple[Message, ...]) -> None:
    with pytest.raises(InvalidParameter):
        written(asked(messages=messages))


def test_a_whole_answer_with_thoughts_a_call_logprobs_and_every_count() -> None:
    body = {
        "candidates": [
            candidate(
                {"text": "hm", "thought": True},
                {"text": "so "},
                {"text": "be it"},
                {"functionCall": {"name": "weather", "args": {"city": "Bern"}}, "thoughtSignature": "c2ln"},
                finish="STOP",
            )
            | {
                "logprobsResult": {
                    "chosenCandidates": [{"token": "so", "logProbability": -0.5}],
                    "topCandidates": [{"candidates": [{"token": "so", "logProbability": -0.5}]}],
                }
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 7, "thoughtsTokenCount": 9,
            "toolUsePromptTokenCount": 3, "totalTokenCount": 119,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 70}, {"modality": "AUDIO", "tokenCount": 30}],
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 30}, {"modality": "AUDIO", "tokenCount": 10}],
        },
        "responseId": "r9",
    }  # fmt: skip
    answer = GEMINI.read_answer(json.dumps(body).encode(), "application/json")
    assert answer.id == "r9"
    assert answer.counts == UsageCounts(
        input_tokens=103, cached_input_tokens=40, output_tokens=16, reasoning_tokens=9, audio_input_tokens=20
    )
    (choice,) = answer.choices
    thought, text, made = choice.parts
    assert (thought, text) == (Reasoning("hm"), Text("so be it"))
    assert isinstance(made, ToolCall)
    assert unseal(made.id)[1] == "c2ln"
    assert json.loads(made.arguments) == {"city": "Bern"}
    assert choice.finish_reason == "tool_calls"
    assert choice.logprobs is not None
    (token,) = json.loads(bytes(choice.logprobs))["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("so", -0.5, [115, 111])


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"), ("SPII", "content_filter"), ("OTHER", "stop"), ("NEW_REASON", "stop"),
    ],
)  # fmt: skip
def test_finish_reasons(reason: str, expected: str) -> None:
    body = json.dumps({"candidates": [candidate({"text": "x"}, finish=reason)]}).encode()
    assert GEMINI.read_answer(body, "application/json").choices[0].finish_reason == expected


def test_a_refused_prompt_is_a_content_filter_and_not_an_empty_answer() -> None:
    refused = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 8}}
    answer = GEMINI.read_answer(json.dumps(refused).encode(), "application/json")
    assert [choice.finish_reason for choice in answer.choices] == ["content_filter"]
    assert answer.counts == UsageCounts(input_tokens=8)
    assert [type(event) for event in events(refused)] == [Started, Finished, Counted, Ended]


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_stream_cut_anywhere(step: int) -> None:
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3}
    found = events(
        {"candidates": [candidate({"text": "hm", "thought": True})], "responseId": "r", "usageMetadata": {"promptTokenCount": 5}},
        {"candidates": [candidate({"text": "a"}, {"functionCall": {"name": "f", "args": {"x": 1}, "id": "id1"}})]},
        {"candidates": [candidate({"functionCall": {"name": "g"}}, finish="STOP")], "usageMetadata": usage},
        step=step,
    )  # fmt: skip
    second = found[4]
    assert isinstance(second, ToolCallDelta)
    assert found == [
        Started("r", UsageCounts(input_tokens=5)),
        ReasoningDelta("hm"),
        TextDelta("a"),
        ToolCallDelta(0, '{"x": 1}', "id1", "f"),
        ToolCallDelta(1, "{}", second.id, "g"),
        Finished("tool_calls"),
        Counted(UsageCounts(input_tokens=5, output_tokens=5, reasoning_tokens=3)),
        Ended(),
    ]


def test_a_stream_is_whole_only_when_every_candidate_finished() -> None:
    one = {"candidates": [candidate({"text": "a"}, finish="STOP"), candidate({"text": "b"}, index=1)]}
    assert Ended() not in events(one)
    assert events(one, {"candidates": [candidate(finish="MAX_TOKENS", index=1)]})[-2:] == [
        Finished("length", 1),
        Ended(),
    ]


def test_an_error_inside_a_stream_is_told_in_its_words() -> None:
    broken = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    assert events({"candidates": [candidate({"text": "a"})]}, broken)[-1] == Failed(
        "The model is overloaded."
    )


def test_unreadable_answers_break() -> None:
    for body in (b"<html>", b"[]", b'{"candidates": 1}'):
        with pytest.raises(UpstreamBroke):
            GEMINI.read_answer(body, "application/json")
    with pytest.raises(UpstreamBroke):
        GEMINI.reader().feed(b"data: {oh\n\n")


@pytest.mark.parametrize(
    "body",
    [b'{"error":{"code":400,"message":"no key"}}', b'[{"error":{"code":400,"message":"no key"}}]', b"no key"],
)
def test_errors_in_every_shape(body: bytes) -> None:
    assert GEMINI.told(body).message == "no key"
