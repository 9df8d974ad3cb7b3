"""The pages of `GET /v1/models` to `Model`s. https://platform.claude.com/docs/en/api/models/list."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from aigateway.v1 import model_pb2


class _Support(msgspec.Struct):
    supported: bool = False


class _Capabilities(msgspec.Struct):
    image_input: _Support | None = None
    pdf_input: _Support | None = None
    structured_outputs: _Support | None = None
    thinking: _Support | None = None


class _Model(msgspec.Struct):
    id: str
    display_name: str = ""
    created_at: str = ""
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    capabilities: _Capabilities | None = None


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool = False
    last_id: str | None = None


class Page(NamedTuple):
    """One page of the list."""

    models: list[model_pb2.Model]
    next_after: str
    """Where the next page begins; empty on the last one."""


_PAGE: Final = msgspec.json.Decoder(_Page)
_MODEL: Final = msgspec.json.Decoder(_Model)


def page(body: bytes, provider: str) -> Page:
    """Translate one page.

    Raises:
        splice.UNREADABLE: it is not a page of models.
    """
    body.decode()  # what is passed on unread must be text too
    found = _PAGE.decode(body)
    return Page([_model(raw, provider) for raw in found.data], (found.last_id or "") if found.has_more else "")


def _model(raw: msgspec.Raw, provider: str) -> model_pb2.Model:
    found = _MODEL.decode(raw)
    can = found.capabilities or _Capabilities()
    modalities = ["text"]
    if can.image_input and can.image_input.supported:
        modalities.append("image")
    if can.pdf_input and can.pdf_input.supported:
        modalities.append("file")
    return model_pb2.Model(
        id=found.id,
        provider=provider,
        upstream_model=found.id,
        created=_seconds(found.created_at),
        owned_by="anthropic",
        display_name=found.display_name,
        context_window=found.max_input_tokens,
        max_output_tokens=found.max_tokens,
        input_modalities=modalities if found.capabilities else None,
        output_modalities=["text"],
        reasoning=can.thinking.supported if can.thinking else None,
        structured_output=can.structured_outputs.supported if can.structured_outputs else None,
        native_json=bytes(raw),
    )


def _seconds(moment: str) -> int:
    try:
        return max(0, int(datetime.fromisoformat(moment).timestamp()))
    except ValueError:
        return 0
