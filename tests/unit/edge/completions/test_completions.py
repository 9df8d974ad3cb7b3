"""Legacy completions: the prompt as one message, the answer as text, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_common.sse import SSEReader
from aigateway_edge.completions.from_proto import TextChunks, text_completion
from aigateway_edge.completions.to_proto import completion_call
from openai.types import Completion
from support.edge import Event, finish, start

OPENAI = message_pb2.DIALECT_OPENAI_CHAT


def read(**fields: Any) -> Any:
    return completion_call(json.dumps({"model": "m", "prompt": "Say hi"} | fields).encode())


def test_a_prompt_is_one_user_message() -> None:
    part = message_pb2.Part(text=message_pb2.TextPart(text="Say hi"))
    message = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[part], content_shape=message_pb2.CONTENT_SHAPE_STRING
    )
    options = chat_pb2.GenerationOptions(max_output_tokens=5, legacy_max_tokens=True, n=2, stop=["\n"], temperature=0.5)
    expected = chat_pb2.ChatCall(
        model="m",
        messages=[message],
        options=options,
        user="u",
        dialect=OPENAI,
        extra_json=b'{"logit_bias":{"50256":1}}',
    )
    fields = {"max_tokens": 5, "n": 2, "stop": "\n", "temperature": 0.5, "user": "u", "best_of": 1, "logprobs": None}
    body = json.dumps({"model": "m", "prompt": ["Say hi"], "suffix": "", "logit_bias": {"50256": 1}} | fields)
    parsed = completion_call(body.replace('{"50256": 1}', '{"50256":1}').encode())
    assert (parsed.call, parsed.stream, parsed.before) == (expected, False, "")


def test_echo_and_stream() -> None:
    parsed = read(echo=True, stream=True, stream_options={"include_usage": True})
    assert (parsed.before, parsed.stream, parsed.call.include_usage) == ("Say hi", True, True)


@pytest.mark.parametrize(
    ("fields", "reason", "param"),
    [
        ({"prompt": None}, "INVALID_REQUEST", "prompt"),
        ({"prompt": ""}, "INVALID_REQUEST", "prompt"),
        ({"prompt": []}, "INVALID_REQUEST", "prompt"),
        ({"prompt": ["a", "b"]}, "UNSUPPORTED", "prompt"),
        ({"prompt": [1, 2]}, "UNSUPPORTED", "prompt"),
        ({"prompt": [[1], [2]]}, "UNSUPPORTED", "prompt"),
        ({"prompt": {"a": 1}}, "INVALID_REQUEST", "prompt"),
        ({"suffix": "end"}, "UNSUPPORTED", "suffix"),
        ({"logprobs": 0}, "UNSUPPORTED", "logprobs"),
        ({"best_of": 3}, "UNSUPPORTED", "best_of"),
        ({"model": ""}, "INVALID_REQUEST", "model"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], reason: str, param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        read(**fields)
    assert (caught.value.reason.name, caught.value.details["param"]) == (reason, param)


def test_a_whole_answer() -> None:
    parts = [
        message_pb2.Part(reasoning=message_pb2.ReasoningPart(text="hm")),
        message_pb2.Part(text=message_pb2.TextPart(text=" hi")),
    ]
    choice = chat_pb2.Choice(
        message=message_pb2.Message(parts=parts), finish_reason=chat_pb2.FINISH_REASON_LENGTH, native_finish_reason="n"
    )
    answer = chat_pb2.ChatCompletion(
        id="x",
        created=7,
        model="m-1",
        choices=[choice],
        usage=tokens_pb2.TokenUsage(input_uncached=3, output_text=2),
        dialect=OPENAI,
        extra_json=b'{"system_fingerprint":"fp"}',
    )
    body, notes = text_completion(answer, request_id="r", before="Say")
    Completion.model_validate_json(body)
    assert json.loads(body) == {
        "id": "x",
        "object": "text_completion",
        "created": 7,
        "model": "m-1",
        "choices": [{"index": 0, "text": "Say hi", "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "system_fingerprint": "fp",
    }
    assert [(note.field, note.detail) for note in notes] == [("choices[0].parts[0]", "reasoning")]


def test_a_stream() -> None:
    chunks = TextChunks(request_id="r", include_usage=True, before="Say")
    usage = tokens_pb2.TokenUsage(input_uncached=3, output_text=2)
    events = [start(), Event(reasoning="hm"), Event(part=1, text=" hi"), Event(part=1, text="!"), finish()]
    records = SSEReader().feed(chunks.write([*events, Event(usage=usage)]) + chunks.end())
    assert records[-1].data == b"[DONE]"
    found = [json.loads(record.data) for record in records[:-1]]
    head = {"id": "chat-1", "object": "text_completion", "created": 7, "model": "m-1"}

    def chunk(text: str, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return head | {"choices": [choice], "usage": None}

    counted = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert found == [
        chunk("Say hi"),
        chunk("!"),
        chunk("", "stop"),
        head | {"choices": [], "usage": counted},
    ]


def test_a_paused_turn_is_not_over_and_the_report_says_so() -> None:
    choice = chat_pb2.Choice(finish_reason=chat_pb2.FINISH_REASON_PAUSE, native_finish_reason="pause_turn")
    body, notes = text_completion(chat_pb2.ChatCompletion(choices=[choice]), request_id="r")
    assert json.loads(body)["choices"][0]["finish_reason"] == "length"
    assert [(note.field, note.detail) for note in notes] == [("choices[0].finish_reason", "pause_turn")]
    written = TextChunks(request_id="r", include_usage=False).write([start(), finish("PAUSE", native="pause_turn")])
    comment, record = written.split(b"\n\n", 1)
    assert comment == b": x-gateway-translation: choices[0].finish_reason=emulated(pause_turn)"
    assert json.loads(record.removeprefix(b"data: "))["choices"][0]["finish_reason"] == "length"


def test_a_failure_in_mid_stream_is_one_error_record() -> None:
    error = GatewayError("UPSTREAM_INVALID", "cut short")
    assert json.loads(TextChunks(request_id="r", include_usage=False).fail(error)[6:]) == error.to_openai()
