"""Content blocks of Anthropic messages: the caller's JSON to `Part`s.

A block without a neutral form (server tools and their results, citable sources, container files) stays whole as a
native part. Not for whole messages: see `messages`. https://platform.claude.com/docs/en/api/messages#body-messages-content
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

from aigateway_edge.anthropic import carriers
from aigateway_edge.fields import Fields, Raw

if TYPE_CHECKING:
    from collections.abc import Callable

DIALECT: Final = message_pb2.DIALECT_ANTHROPIC_MESSAGES
_PDF: Final = "application/pdf"

_content: Final[msgspec.json.Decoder[str | list[Raw] | None]] = msgspec.json.Decoder(str | list[Raw] | None)
_object: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])


def content(
    fields: Fields, key: str = "content", places: list[int] | None = None
) -> tuple[message_pb2.ContentShape.ValueType, list[message_pb2.Part]]:
    """A string or a list of blocks, and which of the two it was.

    Args:
        fields: What has it.
        key: Its name.
        places: Takes the index of the block that each part comes from; other providers' thinking makes the two differ.
    """
    places = [] if places is None else places
    value = fields.take(key, _content, "a string or a list of content blocks")
    if value is None:
        return message_pb2.CONTENT_SHAPE_ABSENT, []
    if isinstance(value, str):
        places.append(0)
        return message_pb2.CONTENT_SHAPE_STRING, [message_pb2.Part(text=message_pb2.TextPart(text=value))]
    path = fields.at(key)
    parts: list[message_pb2.Part] = []
    pending: message_pb2.ProviderState | None = None
    for index, raw in enumerate(value):
        pending = _read(raw, f"{path}[{index}]", parts, pending)
        places += [index] * (len(parts) - len(places))
    if pending is not None:
        parts.append(_signed_text(pending))
        places.append(len(value) - 1)
    return message_pb2.CONTENT_SHAPE_LIST, parts


def cache_control(fields: Fields) -> message_pb2.CacheControl | None:
    """The `cache_control` of a block, tool or request; what it has beside `ttl` stays among the other fields."""
    mark = fields.child("cache_control")
    if mark is None:
        return None
    mark.one_of("type", ("ephemeral",))
    ttl = mark.one_of("ttl", ("5m", "1h")) or ""
    fields.put_back("cache_control", mark)
    return message_pb2.CacheControl(ttl=ttl)


def left(fields: Fields) -> bytes:
    """What nobody took, as one JSON object; nulls, which clients write for fields they leave out, say nothing."""
    if fields.empty:
        return b""
    for key in fields.keys():  # noqa: SIM118 # Fields is no dict
        if fields.peek(key) == b"null":
            fields.raw(key)
    return fields.rest()


def opened(raw: Raw, path: str) -> Fields:
    """An item of a list as an object."""
    try:
        return Fields(_object.decode(raw), path)
    except msgspec.ValidationError as error:
        raise invalid(path, f"`{path}` must be an object") from error


def _read(
    raw: Raw, path: str, parts: list[message_pb2.Part], pending: message_pb2.ProviderState | None
) -> message_pb2.ProviderState | None:
    """Append the block's part; `pending` is state that waits for its part, and so is what is answered."""
    fields = opened(raw, path)
    kind = fields.required_text("type")
    if kind in {"thinking", "redacted_thinking"}:
        return _thinking(fields, parts, redacted=kind == "redacted_thinking")
    read = _KINDS.get(kind)
    part = None if read is None else read(fields)
    if part is None:
        native = message_pb2.NativePart(dialect=DIALECT, json=bytes(raw))
        part = message_pb2.Part(native=native)
    else:
        mark = cache_control(fields)
        if mark is not None:
            part.cache_control.CopyFrom(mark)
        if extra := left(fields):
            part.extra_json = extra
    if pending is not None:
        part.provider_state.CopyFrom(pending)
    parts.append(part)
    return None


def _thinking(fields: Fields, parts: list[message_pb2.Part], *, redacted: bool) -> message_pb2.ProviderState | None:
    """A thinking block; answers the state that it carried for the part to come."""
    text = "" if redacted else fields.text("thinking") or ""
    opaque = fields.text("data" if redacted else "signature")
    reasoning = message_pb2.ReasoningPart(text=text, redacted=redacted)
    if not opaque:
        parts.append(message_pb2.Part(reasoning=reasoning, extra_json=left(fields)))
        return None
    state, place = carriers.unpack(opaque)
    if place == "own":
        parts.append(message_pb2.Part(reasoning=reasoning, provider_state=state, extra_json=left(fields)))
        return None
    if text:
        parts.append(message_pb2.Part(reasoning=reasoning))
    if place == "next":
        return state
    if place == "last" and parts:
        parts[-1].provider_state.CopyFrom(state)
    else:
        parts.append(_signed_text(state))
    return None


def _signed_text(state: message_pb2.ProviderState) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(), provider_state=state)


def _text(fields: Fields) -> message_pb2.Part:
    text = fields.text("text")
    if text is None:
        raise invalid(fields.at("text"), f"`{fields.at('text')}` is required and must be a string")
    return message_pb2.Part(text=message_pb2.TextPart(text=text))


def _image(fields: Fields) -> message_pb2.Part | None:
    media = _media(fields)
    return None if media is None else message_pb2.Part(image=message_pb2.ImagePart(media=media))


def _document(fields: Fields) -> message_pb2.Part | None:
    """A document of one piece; one made of content blocks has no neutral form."""
    media = _media(fields, documents=True)
    if media is None:
        return None
    return message_pb2.Part(file=message_pb2.FilePart(media=media, filename=fields.text("title") or ""))


def _media(fields: Fields, *, documents: bool = False) -> message_pb2.Media | None:
    """The media of a block's `source`; None for a source without a neutral form."""
    source = fields.child("source")
    if source is None:
        raise invalid(fields.at("source"), f"`{fields.at('source')}` is required and must be an object")
    kind = source.required_text("type")
    if kind == "url":
        media = message_pb2.Media(url=source.required_text("url"))
    elif kind == "file":
        media = message_pb2.Media(file_id=source.required_text("file_id"))
    elif kind == "base64":
        media_type = source.required_text("media_type")
        if documents and media_type != _PDF:
            return None
        data = source.data("data")
        if data is None:
            raise invalid(source.at("data"), f"`{source.at('data')}` is required and must be base64")
        media = message_pb2.Media(data=data, media_type=media_type)
    elif kind == "text" and documents:
        media = message_pb2.Media(
            data=source.required_text("data").encode(), media_type=source.text("media_type") or "text/plain"
        )
    else:
        return None
    fields.put_back("source", source)
    return media


def _tool_use(fields: Fields) -> message_pb2.Part:
    call = message_pb2.ToolCall(
        id=fields.required_text("id"),
        name=fields.required_text("name"),
        arguments=fields.object_json("input") or b"{}",
        type=message_pb2.TOOL_CALL_TYPE_FUNCTION,
    )
    return message_pb2.Part(tool_call=call)


def _tool_result(fields: Fields) -> message_pb2.Part:
    call_id = fields.required_text("tool_use_id")
    shape, parts = content(fields)
    result = message_pb2.ToolResult(
        call_id=call_id, content=parts, is_error=fields.boolean("is_error"), content_shape=shape
    )
    return message_pb2.Part(tool_result=result)


_KINDS: Final[dict[str, Callable[[Fields], message_pb2.Part | None]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}
