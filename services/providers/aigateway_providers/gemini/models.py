"""Gemini's list of models (https://ai.google.dev/api/models), page by page."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec
from aigateway.v1 import model_pb2

_CHAT: Final = "generateContent"
_EMBED: Final = frozenset({"embedContent", "batchEmbedContents"})


class _Model(msgspec.Struct, rename="camel"):
    name: str
    display_name: str = ""
    input_token_limit: int | None = None
    output_token_limit: int | None = None
    supported_generation_methods: tuple[str, ...] = ()
    thinking: bool | None = None


class _Page(msgspec.Struct, rename="camel"):
    models: list[msgspec.Raw] = []
    next_page_token: str = ""


def path(page_token: str) -> str:
    """The path of the page after `page_token`, or of the first one."""
    return "/v1beta/models?pageSize=1000" + (f"&pageToken={quote(page_token, safe='')}" if page_token else "")


def page(body: bytes, provider: str) -> tuple[list[model_pb2.Model], str]:
    """The models of a page that chat or embed, and the token of the next page; empty on the last.

    Raises:
        msgspec.DecodeError: The JSON is no such page.
    """
    body.decode()  # what is passed on unread must be text too
    found = msgspec.json.decode(body, type=_Page)
    models = [model for raw in found.models if (model := _model(raw, provider)) is not None]
    return models, found.next_page_token


def _model(raw: msgspec.Raw, provider: str) -> model_pb2.Model | None:
    entry = msgspec.json.decode(raw, type=_Model)
    chats = _CHAT in entry.supported_generation_methods
    embeds = not _EMBED.isdisjoint(entry.supported_generation_methods)
    if not chats and not embeds:
        return None
    name = entry.name.removeprefix("models/")
    return model_pb2.Model(
        id=name,
        provider=provider,
        upstream_model=name,
        owned_by="google",
        display_name=entry.display_name,
        context_window=entry.input_token_limit,
        max_output_tokens=entry.output_token_limit if chats else None,
        output_modalities=[] if chats else ["embedding"],
        reasoning=entry.thinking,
        native_json=bytes(raw),
    )
