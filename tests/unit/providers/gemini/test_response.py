"""Whole answers of Gemini, written from https://ai.google.dev/api/generate-content."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_providers.gemini.response import FINISH_REASONS, completion

Part = message_pb2.Part


def answer(*candidates: dict[str, Any], **fields: Any) -> bytes:
    # Gemini answers whole bodies indented.
    return json.dumps({"candidates": list(candidates), **fields}, indent=2).encode()


def read(body: bytes) -> chat_pb2.ChatCompletion:
    return completion(body, model="asked", created=7, notes=[])


def candidate(*parts: dict[str, Any], finish: str | None = "STOP", **fields: Any) -> dict[str, Any]:
    made = {"content": {"parts": list(parts), "role": "model"}, **fields}
    return made | ({"finishReason": finish} if finish else {})


def state(signature: str) -> message_pb2.ProviderState:
    return message_pb2.ProviderState(provider="gemini", state=signature.encode())


def test_a_text_answer_is_one_choice_with_usage_and_names() -> None:
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
    body = answer(
        candidate({"text": "Hello"}, index=0), usageMetadata=usage, modelVersion="gemini-2.5-flash", responseId="r1"
    )
    assert read(body) == chat_pb2.ChatCompletion(
        id="r1",
        created=7,
        model="gemini-2.5-flash",
        choices=[
            chat_pb2.Choice(
                message=message_pb2.Message(
                    role=message_pb2.ROLE_ASSISTANT, parts=[Part(text=message_pb2.TextPart(text="Hello"))]
                ),
                finish_reason=chat_pb2.FINISH_REASON_STOP,
                native_finish_reason="STOP",
            )
        ],
        usage=tokens_pb2.TokenUsage(
            input_uncached=5,
            output_text=2,
            native_json=b'{"promptTokenCount":5,"candidatesTokenCount":2,"totalTokenCount":7}',
        ),
        dialect=message_pb2.DIALECT_GEMINI,
    )


def test_an_answer_without_id_or_model_gets_its_own_id_and_the_asked_model() -> None:
    first, second = read(answer(candidate({"text": "a"}))), read(answer(candidate({"text": "a"})))
    assert first.id != second.id
    assert (first.model, first.HasField("usage")) == ("asked", False)


def test_parts_keep_their_order_and_signatures() -> None:
    body = answer(
        candidate(
            {"text": "Hm.", "thought": True},
            {"text": "Yes", "thoughtSignature": "s1=="},
            {
                "functionCall": {"name": "f", "args": {"z": 1, "a": 12345678901234567890123}, "id": "c1"},
                "thoughtSignature": "s2",
            },
            {"text": ""},
            {"text": "", "thoughtSignature": "s3"},
            {"thoughtSignature": "s4"},
        )
    )
    choice = read(body).choices[0]
    assert list(choice.message.parts) == [
        Part(reasoning=message_pb2.ReasoningPart(text="Hm.", summary=True)),
        Part(text=message_pb2.TextPart(text="Yes"), provider_state=state("s1==")),
        Part(
            tool_call=message_pb2.ToolCall(
                id="c1",
                name="f",
                arguments=b'{"z":1,"a":12345678901234567890123}',
                type=message_pb2.TOOL_CALL_TYPE_FUNCTION,
            ),
            provider_state=state("s2"),
        ),
        Part(text=message_pb2.TextPart(), provider_state=state("s3")),
        Part(text=message_pb2.TextPart(), provider_state=state("s4")),
    ]
    assert choice.finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS


def test_calls_without_an_id_get_ids_that_no_other_call_has() -> None:
    body = answer(candidate({"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}))
    ids = [part.tool_call.id for _ in range(2) for part in read(body).choices[0].message.parts]
    assert len(set(ids)) == 4
    assert read(body).choices[0].message.parts[0].tool_call.arguments == b"{}"


def test_native_parts_stay_whole() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
    ran = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}, "thoughtSignature": "s"}
    parts = read(answer(candidate(code, ran, {"text": "1"}))).choices[0].message.parts
    assert [part.WhichOneof("kind") for part in parts] == ["native", "native", "text"]
    assert [part.native.dialect for part in parts[:2]] == [message_pb2.DIALECT_GEMINI] * 2
    assert [json.loads(part.native.json) for part in parts[:2]] == [code, ran]


def test_pictures_and_sound_come_decoded() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}, "thoughtSignature": "s"}
    audio = {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}}
    pdf = {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}}
    assert list(read(answer(candidate(image, audio, pdf))).choices[0].message.parts) == [
        Part(
            image=message_pb2.ImagePart(media=message_pb2.Media(data=b"\x89PNG", media_type="image/png")),
            provider_state=state("s"),
        ),
        Part(audio=message_pb2.AudioPart(media=message_pb2.Media(data=b"RIFF", media_type="audio/wav"))),
        Part(file=message_pb2.FilePart(media=message_pb2.Media(data=b"%PDF", media_type="application/pdf"))),
    ]


def test_a_sketch_among_the_thoughts_is_no_picture_of_the_answer() -> None:
    sketch = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}, "thought": True}
    (part,) = read(answer(candidate(sketch))).choices[0].message.parts
    assert json.loads(part.native.json) == sketch


def test_unknown_fields_come_back_at_each_level() -> None:
    body = answer(
        candidate(
            {"text": "Hi", "partMetadata": {"a": 1}},
            groundingMetadata={"webSearchQueries": ["x"]},
            safetyRatings=[{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}],
            citationMetadata={"citationSources": []},
        ),
        modelStatus={"modelStage": "PREVIEW"},
    )
    found = read(body)
    assert json.loads(found.extra_json) == {"modelStatus": {"modelStage": "PREVIEW"}}
    assert json.loads(found.choices[0].extra_json) == {
        "groundingMetadata": {"webSearchQueries": ["x"]},
        "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}],
        "citationMetadata": {"citationSources": []},
    }
    assert found.choices[0].message.parts[0].extra_json == b'{"partMetadata":{"a":1}}'
    assert b"\n" not in found.choices[0].extra_json


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ("STOP", "STOP"),
        ("MAX_TOKENS", "LENGTH"),
        *((word, "CONTENT_FILTER") for word in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
        *((word, "CONTENT_FILTER") for word in ("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION")),
        *((word, "ERROR") for word in ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS")),
        *((word, "ERROR") for word in ("LANGUAGE", "NO_IMAGE", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE")),
        ("IMAGE_OTHER", "ERROR"),
        ("SOMETHING_NEW", "STOP"),
    ],
)
def test_stop_reasons_have_their_neutral_word_and_keep_their_own(native: str, expected: str) -> None:
    choice = read(answer(candidate({"text": "x"}, finish=native))).choices[0]
    assert chat_pb2.FinishReason.Name(choice.finish_reason) == f"FINISH_REASON_{expected}"
    assert choice.native_finish_reason == native


def test_every_listed_stop_reason_is_tested_above() -> None:
    marks = test_stop_reasons_have_their_neutral_word_and_keep_their_own.pytestmark  # type: ignore[attr-defined] # pytest's
    assert set(FINISH_REASONS) == {native for native, _ in marks[0].args[1]} - {"SOMETHING_NEW"}


def test_a_filter_beats_the_calls_that_came_before_it() -> None:
    choice = read(answer(candidate({"functionCall": {"name": "f"}}, finish="SAFETY"))).choices[0]
    assert choice.finish_reason == chat_pb2.FINISH_REASON_CONTENT_FILTER


def test_a_blocked_answer_without_parts_is_a_content_filter() -> None:
    choice = read(answer({"content": {}, "finishReason": "SAFETY"})).choices[0]
    assert (choice.finish_reason, len(choice.message.parts)) == (chat_pb2.FINISH_REASON_CONTENT_FILTER, 0)


def test_a_refused_prompt_without_candidates_is_a_content_filter() -> None:
    body = json.dumps(
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4}}
    ).encode()
    found = read(body)
    assert list(found.choices) == [
        chat_pb2.Choice(
            message=message_pb2.Message(role=message_pb2.ROLE_ASSISTANT),
            finish_reason=chat_pb2.FINISH_REASON_CONTENT_FILTER,
            native_finish_reason="PROHIBITED_CONTENT",
        )
    ]
    assert json.loads(found.extra_json) == {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    assert found.usage.input_uncached == 4
    assert not found.usage.HasField("output_text")


@pytest.mark.parametrize("body", [b"{}", b'{"candidates": 1}', b'{"candidates": [{"content": {"parts": [1]}}]}', b"[]"])
def test_other_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(body)


def test_several_candidates_are_choices() -> None:
    found = read(answer(candidate({"text": "a"}), candidate({"text": "b"}, index=1)))
    assert [(choice.index, choice.message.parts[0].text.text) for choice in found.choices] == [(0, "a"), (1, "b")]


def test_token_classes_are_disjoint_and_splits_are_kept() -> None:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 30,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 40,
        "toolUsePromptTokenCount": 50,
        "totalTokenCount": 210,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 10},
            {"modality": "AUDIO", "tokenCount": 60},
            {"modality": "IMAGE", "tokenCount": 30},
        ],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 25}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 15}, {"modality": "AUDIO", "tokenCount": 5}],
        "serviceTier": "standard",
    }
    found = read(answer(candidate({"text": "x"}), usageMetadata=usage)).usage
    assert json.loads(found.native_json) == usage
    found.ClearField("native_json")
    assert found == tokens_pb2.TokenUsage(
        input_uncached=70,
        input_cache_read=30,
        output_text=20,
        output_reasoning=40,
        tool_use_prompt=50,
        input_audio=60,
        input_image=30,
        input_cache_read_audio=25,
        output_audio=5,
        output_image=15,
    )


def test_log_probabilities_are_shown_as_openai_does() -> None:
    result = {
        "chosenCandidates": [
            {"token": "Hi", "tokenId": 1, "logProbability": -0.1},
            {"token": "é", "logProbability": -2},
        ],
        "topCandidates": [
            {"candidates": [{"token": "Hi", "logProbability": -0.1}, {"token": "Yo", "logProbability": -3}]}
        ],
    }
    found = read(answer(candidate({"text": "Hié"}, logprobsResult=result, avgLogprobs=-1))).choices[0]
    assert json.loads(found.logprobs_json) == {
        "content": [
            {
                "token": "Hi",
                "logprob": -0.1,
                "bytes": [72, 105],
                "top_logprobs": [
                    {"token": "Hi", "logprob": -0.1, "bytes": [72, 105]},
                    {"token": "Yo", "logprob": -3.0, "bytes": [89, 111]},
                ],
            },
            {"token": "é", "logprob": -2.0, "bytes": [195, 169], "top_logprobs": []},
        ],
        "refusal": None,
    }
    assert json.loads(found.extra_json) == {"avgLogprobs": -1}
