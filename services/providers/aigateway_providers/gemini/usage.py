"""Tokens as Gemini counts them (`usageMetadata`, https://ai.google.dev/api/generate-content#UsageMetadata).

`promptTokenCount` includes what the cache served, `candidatesTokenCount` leaves out the thoughts, and the prompts of
Google's own tools are counted beside the prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from aigateway.v1 import tokens_pb2

from aigateway_providers.gemini import wire

if TYPE_CHECKING:
    from msgspec import Raw

_PROMPT: Final = "promptTokensDetails"
_CANDIDATES: Final = "candidatesTokensDetails"
_CACHE: Final = "cacheTokensDetails"
_SPLIT: Final = frozenset({_PROMPT, _CANDIDATES, _CACHE})


class _Share(msgspec.Struct, rename="camel"):
    modality: str = ""
    token_count: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] = 0


_SHARES: Final = msgspec.json.Decoder(list[_Share])


class Usage:
    """The counts of one answer. A stream repeats and raises them: each stays at the highest seen, none are added."""

    __slots__ = ("_counts", "_fields", "_shares")

    def __init__(self) -> None:
        self._fields: dict[str, Raw] = {}
        self._counts: dict[str, int] = {}
        self._shares: dict[str, list[_Share]] = {}

    def see(self, raw: Raw) -> None:
        """Take in one `usageMetadata`; what it omits keeps its last value.

        Raises:
            msgspec.DecodeError: A count is no integer.
        """
        for name, value in wire.fields(raw).items():
            if name.endswith("TokenCount"):
                count = wire.integer(value) or 0
                if count < self._counts.get(name, 0):
                    continue
                self._counts[name] = count
            elif name in _SPLIT:
                self._shares[name] = _SHARES.decode(value)
            self._fields[name] = value

    def proto(self, *, estimated: bool = False) -> tokens_pb2.TokenUsage | None:
        """The token classes; None when the provider reported nothing."""
        if not self._counts:
            return None
        count = self._counts.get
        prompt, cached = count("promptTokenCount"), count("cachedContentTokenCount")
        share = self._share
        return tokens_pb2.TokenUsage(
            input_uncached=None if prompt is None else max(0, prompt - (cached or 0)),
            input_cache_read=cached,
            output_text=count("candidatesTokenCount"),
            output_reasoning=count("thoughtsTokenCount"),
            tool_use_prompt=count("toolUsePromptTokenCount"),
            input_audio=share(_PROMPT, "AUDIO"),
            input_image=share(_PROMPT, "IMAGE"),
            output_audio=share(_CANDIDATES, "AUDIO"),
            output_image=share(_CANDIDATES, "IMAGE"),
            input_cache_read_audio=share(_CACHE, "AUDIO"),
            estimated=estimated,
            native_json=wire.rest(self._fields, frozenset()),
        )

    def _share(self, field: str, modality: str) -> int | None:
        return next((share.token_count for share in self._shares.get(field, ()) if share.modality == modality), None)
