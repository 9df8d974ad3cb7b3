"""Content of Responses items: the caller's JSON to `Part`s. Not for whole items: see `conversation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

from aigateway_edge.fields import Fields, Raw, unbase64
from aigateway_edge.media import file_data, from_url

if TYPE_CHECKING:
    from collections.abc import Mapping

DIALECT: Final = message_pb2.DIALECT_OPENAI_RESPONSES

_AUDIO_TYPES: Final[Mapping[str, str]] = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_EMPTY: Final = (b"[]", b"null")

_content: Final[msgspec.json.Decoder[str | list[Raw] | None]] = msgspec.json.Decoder(str | list[Raw] | None)
_object: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])


def content(
    fields: Fields, key: str, *, lists: bool = False
) -> tuple[message_pb2.ContentShape.ValueType, list[message_pb2.Part]]:
    """A string or list of parts, and which of them it was; with `lists` even the empty lists of output parts stay.

    Raises:
        GatewayError: INVALID_REQUEST, when it is missing.
    """
    value = fields.take(key, _content, "a string or a list of parts")
    path = fields.at(key)
    if value is None:
        raise invalid(path, f"`{path}` is required and must be a string or a list of parts")
    if isinstance(value, str):
        return message_pb2.CONTENT_SHAPE_STRING, [message_pb2.Part(text=message_pb2.TextPart(text=value))]
    parts = [_part(raw, f"{path}[{index}]", lists=lists) for index, raw in enumerate(value)]
    return message_pb2.CONTENT_SHAPE_LIST, parts


def as_object(raw: Raw, path: str) -> Fields:
    """An element of a list, which must be an object."""
    try:
        return Fields(_object.decode(raw), path)
    except msgspec.ValidationError as error:
        raise invalid(path, f"`{path}` must be an object") from error


def native(raw: Raw) -> message_pb2.NativePart:
    """Something that only providers of this dialect understand, whole."""
    return message_pb2.NativePart(dialect=DIALECT, json=bytes(raw))


def _part(raw: Raw, path: str, *, lists: bool) -> message_pb2.Part:
    fields = as_object(raw, path)
    match fields.required_text("type"):
        case "input_text" | "output_text" | "text":
            text = message_pb2.TextPart(text=_needed(fields, "text"))
            return message_pb2.Part(text=text, extra_json=_rest(fields, lists=lists))
        case "refusal":
            refusal = message_pb2.RefusalPart(text=_needed(fields, "refusal"))
            return message_pb2.Part(refusal=refusal, extra_json=_rest(fields, lists=lists))
        case "input_image":
            return message_pb2.Part(image=_image(fields), extra_json=_rest(fields, lists=lists))
        case "input_file":
            return message_pb2.Part(file=_file(fields), extra_json=_rest(fields, lists=lists))
        case "input_audio":
            return message_pb2.Part(audio=_audio(fields), extra_json=_rest(fields, lists=lists))
        case _:
            return message_pb2.Part(native=native(raw))


def _rest(fields: Fields, *, lists: bool) -> bytes:
    """What is left, without the empty lists that every output part has."""
    for key in () if lists else ("annotations", "logprobs"):
        if fields.peek(key) in _EMPTY:
            fields.raw(key)
    return fields.rest()


def _needed(fields: Fields, key: str) -> str:
    value = fields.text(key)
    if value is None:
        raise invalid(fields.at(key), f"`{fields.at(key)}` is required and must be a string")
    return value


def _image(fields: Fields) -> message_pb2.ImagePart:
    detail = fields.one_of("detail", ("auto", "low", "high", "original")) or ""
    if file_id := fields.text("file_id"):
        return message_pb2.ImagePart(media=message_pb2.Media(file_id=file_id), detail=detail)
    media = from_url(fields.required_text("image_url"), fields.at("image_url"))
    return message_pb2.ImagePart(media=media, detail=detail)


def _file(fields: Fields) -> message_pb2.FilePart:
    name = fields.text("filename") or ""
    if file_id := fields.text("file_id"):
        media = message_pb2.Media(file_id=file_id)
    elif url := fields.text("file_url"):
        media = from_url(url, fields.at("file_url"))
    else:
        media = file_data(fields.required_text("file_data"), name, fields.at("file_data"))
    return message_pb2.FilePart(media=media, filename=name)


def _audio(fields: Fields) -> message_pb2.AudioPart:
    audio = fields.child("input_audio")
    if audio is None:
        raise invalid(fields.at("input_audio"), f"`{fields.at('input_audio')}` is required and must be an object")
    encoding = audio.required_text("format")
    data = unbase64(audio.required_text("data"), audio.at("data"))
    fields.put_back("input_audio", audio)
    kind = _AUDIO_TYPES.get(encoding, f"audio/{encoding}")
    return message_pb2.AudioPart(media=message_pb2.Media(data=data, media_type=kind), format=encoding)
