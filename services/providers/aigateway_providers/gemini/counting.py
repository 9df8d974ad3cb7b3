"""Counting a prompt's tokens: the body of `countTokens` and its answer (https://ai.google.dev/api/tokens).

The API takes contents alone, or a whole `generateContent` request where there is more to count. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2

from aigateway_providers.gemini import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

_COUNT_FIELDS: Final = frozenset({"totalTokens", "cachedContentTokenCount"})


class _Count(msgspec.Struct, rename="camel"):
    total_tokens: int
    cached_content_token_count: int | None = None


_COUNT: Final = msgspec.json.Decoder(_Count)


def count_body(body: bytes, resource: str) -> bytes:
    """The body that counts what `body`, a `generateContent` request to the model `resource`, would send."""
    fields = {key: orjson.Fragment(bytes(raw)) for key, raw in wire.fields(body).items()}
    if fields.keys() == {"contents"}:
        return body
    return orjson.dumps({"generateContentRequest": {"model": resource, **fields}})


def token_count(answer: bytes, notes: Iterable[chat_pb2.TranslationNote]) -> chat_pb2.TokenCount:
    """Translate a count.

    Raises:
        msgspec.DecodeError: it is none.
    """
    found = _COUNT.decode(answer)
    return chat_pb2.TokenCount(
        input_tokens=found.total_tokens,
        input_cache_read=found.cached_content_token_count,
        translation=notes,
        dialect=wire.DIALECT,
        extra_json=wire.rest(wire.fields(answer), _COUNT_FIELDS),
    )
