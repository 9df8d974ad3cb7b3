"""Embeddings: `POST /embeddings`, request and answer; pure.

https://platform.openai.com/docs/api-reference/embeddings. Vectors are asked for in base64 (little-endian float32),
a quarter of the size of decimals, unless the caller reads decimals; whatever comes is understood.
"""

from __future__ import annotations

import base64
import sys
from array import array
from typing import TYPE_CHECKING, Any

import orjson
from aigateway.v1 import embedding_pb2

from aigateway_providers import splice
from aigateway_providers.openai_compat.messages import DIALECT
from aigateway_providers.openai_compat.response import dump
from aigateway_providers.openai_compat.usage import to_usage
from aigateway_providers.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import chat_pb2

    from aigateway_providers.openai_compat.messages import Json

_FIXED = frozenset({"model", "input", "encoding_format"})


def to_body(call: embedding_pb2.EmbedCall, *, provider: str) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
    """The request body, and what could not be carried.

    Raises:
        GatewayError: INVALID_REQUEST, or TRANSLATION_REFUSED under the strict policy.
    """
    report = Report(call.translation_policy)
    inputs = [_input(item) for item in call.inputs]
    body: Json = {
        "model": call.model,
        "input": inputs[0] if call.single_input and len(inputs) == 1 else inputs,
    }
    if not call.decimals:  # which are what every host sends unasked
        body["encoding_format"] = "base64"
    if call.HasField("dimensions"):
        body["dimensions"] = call.dimensions
    if call.user:
        body["user"] = call.user
    if call.dialect == DIALECT:
        splice.merge(body, call.extra_json, "extra_json", refused=_FIXED)
    else:
        for key in splice.members(call.extra_json, "extra_json"):
            report.dropped(key)
    if options := call.provider_options.get(provider):
        splice.merge(body, options, f"provider_options.{provider}", refused=_FIXED)
    notes = report.settle()
    return orjson.dumps(body), notes


def to_embeddings(
    body: dict[str, Any], count: int, notes: Sequence[chat_pb2.TranslationNote]
) -> embedding_pb2.Embeddings:
    """The `count` vectors; `body` is used up. Raises KeyError, TypeError or ValueError when it does not hold them."""
    rows = [
        embedding_pb2.Embedding(index=row.get("index", place), values=_values(row["embedding"]))
        for place, row in enumerate(body.pop("data"))
    ]
    if len(rows) != count:
        raise ValueError("as many vectors as inputs are due")
    usage = body.pop("usage", None)
    body.pop("object", None)
    return embedding_pb2.Embeddings(
        model=body.pop("model", None),
        embeddings=sorted(rows, key=lambda row: row.index),
        usage=to_usage(usage) if usage else None,
        translation=notes,
        dialect=DIALECT,
        extra_json=dump(body),
    )


def _input(item: embedding_pb2.EmbeddingInput) -> str | list[int]:
    return list(item.tokens.ids) if item.HasField("tokens") else item.text


def _values(embedding: str | list[float]) -> Sequence[float]:
    if isinstance(embedding, list):
        return embedding
    floats = array("f", base64.b64decode(embedding, validate=True))
    if sys.byteorder == "big":
        floats.byteswap()
    return floats
