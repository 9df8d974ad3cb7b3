"""What an answer cites: between OpenAI's two dialects, and the note of it in dialects that cannot show it.

Chat Completions keeps `annotations` beside a message and nests each under its type
(https://platform.openai.com/docs/api-reference/chat/object#chat-object-choices-message-annotations), in streams too, in
a delta (https://github.com/openai/openai-java/issues/297); Responses keeps them with the text they belong to, flat
(https://platform.openai.com/docs/api-reference/responses/object). Only addresses have a form in both. Other providers
cite in shapes of their own, which are theirs alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2

from aigateway_edge.native import word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Json = dict[str, Any]

_FIELDS: Final = frozenset({"annotations", "citations", "groundingMetadata", "citationMetadata", "urlContextMetadata"})
"""Extra fields that cite: of OpenAI and hosts like it, Anthropic, and Gemini."""
_NOTHING: Final = frozenset({b"null", b"[]", b"{}"})
_URL: Final = "url_citation"
_members: Final[msgspec.json.Decoder[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def fields(json: bytes) -> list[str]:
    """The names of extra fields that cite something."""
    if not json:
        return []
    found = _members.decode(json)
    return [name for name in found if name in _FIELDS and bytes(found[name]).replace(b" ", b"") not in _NOTHING]


def dropped(path: str, json: bytes) -> list[chat_pb2.TranslationNote]:
    """Notes of citations among the extra fields of something at `path`."""
    return [unshown(f"{path}.{name}", "") for name in fields(json)]


def unshown(path: str, kind: str) -> chat_pb2.TranslationNote:
    """The note of citations that were left out."""
    return chat_pb2.TranslationNote(field=path, action=chat_pb2.TRANSLATION_ACTION_DROPPED, detail=kind)


def comment(place: str, names: Iterable[str]) -> bytes:
    """The same in an event stream, whose headers are gone by then."""
    return b"".join(b": x-gateway-translation: %b=dropped(%b)\n\n" % (place.encode(), word(name)) for name in names)


def chat_of_responses(json: bytes, before: int) -> tuple[list[Json], list[str]]:
    """Annotations of a Responses text as those of a chat message, and the types of those that it cannot show.

    Args:
        json: The extra fields of the text.
        before: How many characters of the message come before the text.
    """
    shown: list[Json] = []
    others: list[str] = []
    for kind, annotation in _annotations(json):
        if kind == _URL:
            inner = {key: value for key, value in annotation.items() if key != "type"}
            shown.append({"type": kind, kind: inner | _moved(inner, before)})
        else:
            others.append(kind)
    return shown, others


def responses_of_chat(json: bytes) -> tuple[list[Json], list[str]]:
    """Annotations of a chat message as those of a Responses text, and the types of those that it cannot show."""
    shown: list[Json] = []
    others: list[str] = []
    for kind, annotation in _annotations(json):
        inner = annotation.get(kind)
        if kind == _URL and isinstance(inner, dict):
            shown.append({"type": kind} | inner)
        else:
            others.append(kind)
    return shown, others


def _annotations(json: bytes) -> Iterator[tuple[str, Json]]:
    """Each annotation among some extra fields, with its type; hosts write what they like there."""
    raw = _members.decode(json).get("annotations", b"null") if json else b"null"
    try:
        found = orjson.loads(bytes(raw))
    except orjson.JSONDecodeError:  # a number too large, for one
        found = [None]
    for annotation in found if isinstance(found, list) else []:
        kind = annotation.get("type") if isinstance(annotation, dict) else None
        yield (kind if isinstance(kind, str) else "annotation"), (annotation if isinstance(annotation, dict) else {})


def _moved(inner: Json, before: int) -> Json:
    places = {key: inner.get(key) for key in ("start_index", "end_index")}
    return {key: place + before for key, place in places.items() if isinstance(place, int)}
