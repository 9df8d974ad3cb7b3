"""Embeddings by `batchEmbedContents` (https://ai.google.dev/api/embeddings). Pure.

More texts than one request may hold are spread over several, and their answers put together again. Sending them is the
adapter's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import orjson
from aigateway.v1 import embedding_pb2, tokens_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers.gemini import contents, wire
from aigateway_providers.gemini.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aigateway.v1 import chat_pb2
    from msgspec import Raw

    from aigateway_providers.report import Report

MAX_BATCH: Final = 100
"""Texts in one request. The API's reference does not say so; the API does, with HTTP 400: "at most 100 requests can be
in one batch" (https://github.com/vercel/ai/pull/16575, https://github.com/lancedb/lancedb/pull/3618)."""
_KNOWN: Final = frozenset({"embeddings", "usageMetadata"})
_UNIT: Final = 1e-6
"""How far from 1 the length of a vector may be and still count as 1."""
_COUNTS: Final = tuple(
    field.name for field in tokens_pb2.TokenUsage.DESCRIPTOR.fields if field.name not in {"estimated", "native_json"}
)


class _Embedding(msgspec.Struct):
    values: list[float]


_VECTORS: Final = msgspec.json.Decoder(list[_Embedding])


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer to one request."""

    vectors: list[list[float]]
    usage: tokens_pb2.TokenUsage | None
    """Its tokens; None when it told none."""
    fields: Mapping[str, Raw]
    """The whole answer."""


class Asked(NamedTuple):
    """One request."""

    body: bytes
    texts: int
    """How many texts it asks to embed."""


def embed_requests(call: embedding_pb2.EmbedCall, resource: str, report: Report) -> list[Asked]:
    """The requests, in the order of the inputs, `MAX_BATCH` in each but the last; what they cannot carry is noted.

    `provider_options` are fields of each request of a batch, such as `taskType`.

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
    starts = range(0, max(1, len(requests)), MAX_BATCH)
    shares = [requests[start : start + MAX_BATCH] for start in starts]
    return [Asked(orjson.dumps({"requests": share}), len(share)) for share in shares]


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


def batch(body: bytes, texts: int) -> Batch:
    """The answer `body` to a request of so many `texts`.

    Raises:
        msgspec.DecodeError: The JSON is no such answer, or has another number of vectors.
    """
    answer = wire.fields(wire.compact(body))
    usage = Usage()
    if "usageMetadata" in answer:
        usage.see(answer["usageMetadata"])
    vectors = [found.values for found in _VECTORS.decode(answer.get("embeddings", b"[]"))]
    if len(vectors) != texts:
        raise msgspec.ValidationError(f"{len(vectors)} vectors for {texts} texts")
    return Batch(vectors, usage.proto(), answer)


def joined(
    batches: Sequence[Batch], call: embedding_pb2.EmbedCall, notes: Sequence[chat_pb2.TranslationNote]
) -> embedding_pb2.Embeddings:
    """The vectors of all `batches`, in the order of the inputs.

    Raises:
        ValueError: The tokens add up to more than the contract holds.
    """
    vectors = [vector for found in batches for vector in found.vectors]
    cut = call.HasField("dimensions")
    return embedding_pb2.Embeddings(
        model=call.model,
        embeddings=[
            embedding_pb2.Embedding(index=index, values=_unit(vector) if cut else vector)
            for index, vector in enumerate(vectors)
        ],
        usage=_total([found.usage for found in batches]),
        translation=notes,
        dialect=wire.DIALECT,
        extra_json=wire.rest({k: raw for found in reversed(batches) for k, raw in found.fields.items()}, _KNOWN),
    )


def _total(usages: Sequence[tokens_pb2.TokenUsage | None]) -> tokens_pb2.TokenUsage | None:
    """The tokens of all requests. A class that some of them told and others did not is a lower bound: `estimated`."""
    if len(usages) == 1:
        return usages[0]
    told = [usage for usage in usages if usage is not None]
    if not told:
        return None
    total = tokens_pb2.TokenUsage(estimated=len(told) < len(usages))
    for name in _COUNTS:
        counts = [getattr(usage, name) for usage in told if usage.HasField(name)]
        if counts:
            setattr(total, name, sum(counts))
            total.estimated |= len(counts) < len(told)
    return total


def _unit(values: list[float]) -> list[float]:
    """The vector at length 1, which the API promises for whole vectors only and callers count on for all."""
    length = math.hypot(*values)
    if length == 0 or abs(length - 1) < _UNIT:
        return values
    return [value / length for value in values]
