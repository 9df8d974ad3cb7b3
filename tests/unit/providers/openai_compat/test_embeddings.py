"""Embeddings of an OpenAI-compatible host: what is sent, and every way vectors come back."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers.openai_compat.embeddings import to_body, to_embeddings

Input = embedding_pb2.EmbeddingInput


def sent(**fields: Any) -> tuple[dict[str, Any], list[str]]:
    body, notes = to_body(embedding_pb2.EmbedCall(model="e", **fields), provider="openai")
    return json.loads(body), [note.field for note in notes]


@pytest.mark.parametrize(
    ("inputs", "single", "written"),
    [
        ([Input(text="a")], True, "a"),
        ([Input(text="a")], False, ["a"]),
        ([Input(text="a"), Input(text="b")], False, ["a", "b"]),
        ([Input(tokens=embedding_pb2.TokenIds(ids=[1, 2]))], True, [1, 2]),
        ([Input(tokens=embedding_pb2.TokenIds(ids=[1, 2]))], False, [[1, 2]]),
    ],
)
def test_inputs_keep_their_form_and_vectors_are_asked_for_in_base64(
    inputs: list[embedding_pb2.EmbeddingInput], single: bool, written: object
) -> None:
    body, notes = sent(inputs=inputs, single_input=single)
    assert (body, notes) == ({"model": "e", "input": written, "encoding_format": "base64"}, [])


def test_a_caller_who_reads_decimals_gets_those_that_the_host_wrote() -> None:
    assert sent(inputs=[Input(text="a")], decimals=True) == ({"model": "e", "input": ["a"]}, [])


def test_dimensions_user_and_extra_fields_are_sent() -> None:
    body, notes = sent(
        inputs=[Input(text="a")],
        dimensions=64,
        user="u",
        dialect=message_pb2.DIALECT_OPENAI_CHAT,
        extra_json=b'{"x": 1}',
        provider_options={"openai": b'{"y": 2}'},
    )
    assert (body["dimensions"], body["user"], body["x"], body["y"]) == (64, "u", 1, 2)
    assert notes == []


def test_extra_fields_of_another_dialect_are_said_or_refused() -> None:
    foreign = {"inputs": [Input(text="a")], "dialect": message_pb2.DIALECT_GEMINI, "extra_json": b'{"taskType": 1}'}
    assert sent(**foreign)[1] == ["taskType"]
    with pytest.raises(GatewayError, match="strict"):
        sent(**foreign, translation_policy=chat_pb2.TRANSLATION_POLICY_STRICT)


def test_vectors_come_back_in_the_order_of_the_inputs_in_base64_and_in_decimals() -> None:
    packed = base64.b64encode(struct.pack("<3f", 0.5, -0.25, 3)).decode()
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 1, "embedding": [0.1, 2]},
            {"object": "embedding", "index": 0, "embedding": packed},
        ],
        "model": "e-1",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
        "service": "x",
    }
    assert to_embeddings(body, 2, [chat_pb2.TranslationNote(field="f")]) == embedding_pb2.Embeddings(
        model="e-1",
        embeddings=[
            embedding_pb2.Embedding(index=0, values=[0.5, -0.25, 3]),
            embedding_pb2.Embedding(index=1, values=[0.1, 2]),
        ],
        usage=tokens_pb2.TokenUsage(input_uncached=4, native_json=b'{"prompt_tokens":4,"total_tokens":4}'),
        translation=[chat_pb2.TranslationNote(field="f")],
        dialect=message_pb2.DIALECT_OPENAI_CHAT,
        extra_json=b'{"service":"x"}',
    )


@pytest.mark.parametrize(
    "body", [{}, {"data": []}, {"data": [{}]}, {"data": [{"embedding": "AAA"}]}, {"data": [{"embedding": None}]}]
)
def test_what_holds_no_vectors_is_not_taken_for_them(body: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        to_embeddings(body, 1, [])
