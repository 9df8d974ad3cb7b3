"""What a dialect cannot show: the note that says so. Shared by the dialects of the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import chat_pb2

if TYPE_CHECKING:
    from aigateway.v1 import message_pb2


class _Typed(msgspec.Struct):
    """A JSON object with a `type`."""

    type: str = ""


_typed: Final[msgspec.json.Decoder[_Typed]] = msgspec.json.Decoder(_Typed)
_members: Final[msgspec.json.Decoder[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def native_type(part: message_pb2.NativePart) -> str:
    """The provider's word for a part that only it understands; empty when it has none."""
    try:
        return _typed.decode(part.json).type or next(iter(_members.decode(part.json)), "")
    except msgspec.DecodeError:
        return ""


def dropped(path: str, part: message_pb2.Part) -> chat_pb2.TranslationNote:
    """The note of a part that was left out."""
    kind = part.WhichOneof("kind")
    detail = native_type(part.native) if kind == "native" else kind or ""
    return chat_pb2.TranslationNote(field=path, action=chat_pb2.TRANSLATION_ACTION_DROPPED, detail=detail)


def paused(choice: int, native: str) -> chat_pb2.TranslationNote:
    """The note of a turn that its provider paused, in a dialect that has no word for it."""
    return chat_pb2.TranslationNote(
        field=f"choices[{choice}].finish_reason", action=chat_pb2.TRANSLATION_ACTION_EMULATED, detail=native
    )


def paused_comment(choice: int, native: str) -> bytes:
    """The same in an event stream, whose headers are gone by then."""
    return b": x-gateway-translation: choices[%d].finish_reason=emulated(%b)\n\n" % (choice, word(native))


def word(text: str) -> bytes:
    """A native type as it can stand in a comment of an event stream."""
    return "".join(letter for letter in text[:64] if letter.isalnum() or letter in "_.-").encode("ascii", "ignore")
