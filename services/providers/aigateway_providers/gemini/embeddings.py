"""Embeddings by `batchEmbedContents` (https://ai.google.dev/api/embeddings). Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import embedding_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers.gemini import contents, wire
from aigateway_providers.gemini.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import chat_pb2

    from aigateway_providers.report import Report

_KNOWN: Final = frozenset({"embeddings", "usageMetadata"})
_UNIT: Final = 1e-6
"""How far from 1 the length of a vector may be and still count as 1."""


class _Embedding(msgspec.Struct):
    values: list[float]


_VECTORS: Final = msgspec.json.Decoder(list[_Embedding])


def embed_body(call: embedding_pb2.EmbedCall, resource: str, report: Report) -> bytes:
    """The body; what it cannot carry is noted in `report`.

    `provider_options` are fields of each request of the batch, such as `taskType`.

    Raises:
        GatewayError: UNSUPPORTED for tokens, INVALID_REQUEST.
    """
    requests = [_request(call, number, resource) for number in range(len(call.inputs))]
    if call.user:
        report.dropped("user", "Gemini takes no id of the end user")
    own = call.dialect == wire.DIALECT
    for number, request in enumerate(requests):
        if own or number == 0:
            contents.report_or_merge(request, call.extra_json, "", own=own, report=report)
        if options := call.provider_options.get(wire.KIND):
            wire.merge(request, options, f"provider_options.{wire.KIND}")
    return orjson.dumps({"requests": requests})


def _request(call: embedding_pb2.EmbedCall, number: int, resource: str) -> dict[str, Any]:
    given = call.inputs[number]
    if given.WhichOneof("kind") != "text":
        raise GatewayError(
            "UNSUPPORTED",
            f"`input[{number}]`: Gemini embeds text, not token ids; send the text itself",
            details={"param": "input"},
        )
    request: dict[str, Any] = {"model": resource, "content": {"parts": [{"text": given.text}]}}
    if call.HasField("dimensions"):
        request["outputDimensionality"] = call.dimensions
    return request


def vectors(
    body: bytes, call: embedding_pb2.EmbedCall, notes: Sequence[chat_pb2.TranslationNote]
) -> embedding_pb2.Embeddings:
    """The vectors, in the order of the inputs.

    Raises:
        msgspec.DecodeError: The JSON is no such answer, or has another number of vectors.
    """
    answer = wire.fields(wire.compact(body))
    embeddings = _VECTORS.decode(answer.get("embeddings", b"[]"))
    if len(embeddings) != len(call.inputs):
        raise msgspec.ValidationError(f"{len(embeddings)} vectors for {len(call.inputs)} texts")
    usage = Usage()
    if "usageMetadata" in answer:
        usage.see(answer["usageMetadata"])
    cut = call.HasField("dimensions")
    return embedding_pb2.Embeddings(
        model=call.model,
        embeddings=[
            embedding_pb2.Embedding(index=index, values=_unit(found.values) if cut else found.values)
            for index, found in enumerate(embeddings)
        ],
        usage=usage.proto(),
        translation=notes,
        dialect=wire.DIALECT,
        extra_json=wire.rest(answer, _KNOWN),
    )


def _unit(values: list[float]) -> list[float]:
    """The vector at length 1, which the API promises for whole vectors only and callers count on for all."""
    length = math.hypot(*values)
    if length == 0 or abs(length - 1) < _UNIT:
        return values
    return [value / length for value in values]
