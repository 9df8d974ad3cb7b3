"""Content parts of OpenAI messages: the caller's JSON to `Part`s.

Not for whole messages: see `messages`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

from aigateway_edge.fields import unbase64
from aigateway_edge.media import file_data, from_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_edge.fields import Fields

_AUDIO_TYPES: Final[Mapping[str, str]] = {"mp3": "audio/mpeg", "wav": "audio/wav", "pcm16": "audio/pcm"}
_GOOGLE: Final = "google"
"""The name under which Google's own OpenAI endpoint keeps its state, and so do we for `gemini`."""


def part(fields: Fields, json: bytes) -> message_pb2.Part:
    """One content part; `json` is the whole of it, for kinds that have no neutral form."""
    match fields.required_text("type"):
        case "text":
            return _finish(fields, text=message_pb2.TextPart(text=_needed(fields, "text")))
        case "image_url":
            return _finish(fields, image=_image(fields))
        case "input_audio":
            return _finish(fields, audio=_audio(fields))
        case "file":
            return _finish(fields, file=_file(fields))
        case "refusal":
            return _finish(fields, refusal=message_pb2.RefusalPart(text=_needed(fields, "refusal")))
        case _:
            return message_pb2.Part(
                cache_control=cache_control(fields),
                native=message_pb2.NativePart(dialect=message_pb2.DIALECT_OPENAI_CHAT, json=json),
            )


def cache_control(fields: Fields) -> message_pb2.CacheControl | None:
    """The `cache_control` of a part, message, tool or request."""
    mark = fields.child("cache_control")
    if mark is None:
        return None
    mark.one_of("type", ("ephemeral",))
    return message_pb2.CacheControl(ttl=mark.one_of("ttl", ("5m", "1h")) or "")


def provider_state(fields: Fields) -> message_pb2.ProviderState | None:
    """The state in `extra_content`: `google.thought_signature` as text, another provider's `state` as base64."""
    content = fields.child("extra_content")
    if content is None:
        return None
    found: message_pb2.ProviderState | None = None
    for provider in content.keys():  # noqa: SIM118 # Fields is no dict
        inner = content.child(provider)
        if inner is None or found is not None:
            continue
        if provider == _GOOGLE:
            if signature := inner.text("thought_signature"):
                found = message_pb2.ProviderState(provider="gemini", state=signature.encode())
        elif (state := inner.data("state")) is not None:
            found = message_pb2.ProviderState(provider=provider, state=state)
        content.put_back(provider, inner)
    fields.put_back("extra_content", content)
    return found


def _finish(
    fields: Fields,
    *,
    text: message_pb2.TextPart | None = None,
    image: message_pb2.ImagePart | None = None,
    audio: message_pb2.AudioPart | None = None,
    file: message_pb2.FilePart | None = None,
    refusal: message_pb2.RefusalPart | None = None,
) -> message_pb2.Part:
    return message_pb2.Part(
        text=text,
        image=image,
        audio=audio,
        file=file,
        refusal=refusal,
        cache_control=cache_control(fields),
        extra_json=fields.rest(),
    )


def _needed(fields: Fields, key: str) -> str:
    value = fields.text(key)
    if value is None:
        raise invalid(fields.at(key), f"`{fields.at(key)}` is required and must be a string")
    return value


def _object(fields: Fields, key: str) -> Fields:
    child = fields.child(key)
    if child is None:
        raise invalid(fields.at(key), f"`{fields.at(key)}` is required and must be an object")
    return child


def _image(fields: Fields) -> message_pb2.ImagePart:
    image = _object(fields, "image_url")
    media = from_url(image.required_text("url"), image.at("url"))
    detail = image.one_of("detail", ("auto", "low", "high", "original"))
    fields.put_back("image_url", image)
    return message_pb2.ImagePart(media=media, detail=detail or "")


def _audio(fields: Fields) -> message_pb2.AudioPart:
    audio = _object(fields, "input_audio")
    encoding = audio.required_text("format")
    data = unbase64(audio.required_text("data"), audio.at("data"))
    fields.put_back("input_audio", audio)
    kind = _AUDIO_TYPES.get(encoding, f"audio/{encoding}")
    return message_pb2.AudioPart(media=message_pb2.Media(data=data, media_type=kind), format=encoding)


def _file(fields: Fields) -> message_pb2.FilePart:
    file = _object(fields, "file")
    name = file.text("filename") or ""
    if file_id := file.text("file_id"):
        media = message_pb2.Media(file_id=file_id)
    else:
        media = file_data(file.required_text("file_data"), name, file.at("file_data"))
    fields.put_back("file", file)
    return message_pb2.FilePart(media=media, filename=name)
