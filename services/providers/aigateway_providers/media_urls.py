"""The web addresses of pictures, sound and documents in a call, and the call with their bytes in place; pure.

For providers that take bytes only. Who fetches them is `media_fetch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aigateway.v1 import chat_pb2
from aigateway_common.errors import invalid

from aigateway_providers import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aigateway.v1 import message_pb2

MediaKind = Literal["image", "audio", "file"]

MAX_ADDRESSES: Final = 100
"""Different addresses in one call at most; each is a request that somebody else's server gets."""

_FIELDS: Final[Mapping[MediaKind, str]] = {"image": "image_url.url", "audio": "input_audio", "file": "file"}


@dataclass(frozen=True, slots=True)
class Takes:
    """What a provider takes as bytes."""

    types: Mapping[MediaKind, frozenset[str]]
    """MIME types by the kind of part; a kind that is missing is not fetched for."""
    fetch: Callable[[str], bool]
    """Whether the gateway has to fetch a URL; one that the provider reads by itself goes to it as it is."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One address to be fetched."""

    url: str
    param: str
    """The field of the caller's request that names it first."""
    types: frozenset[str]
    """The MIME types that the provider takes there."""


def wanted(call: chat_pb2.ChatCall, takes: Takes) -> list[Wanted]:
    """The addresses in `call` that must be fetched, each once.

    Raises:
        GatewayError: INVALID_REQUEST, when there are more than `MAX_ADDRESSES`.
    """
    found: dict[str, Wanted] = {}
    for media, kind, path in _media(call):
        types = takes.types.get(kind)
        if types is None or media.WhichOneof("source") != "url" or media.url in found or not takes.fetch(media.url):
            continue
        param = f"{path}.{_FIELDS[kind]}"
        if len(found) == MAX_ADDRESSES:
            raise invalid(param, f"`{param}` is one address too many: {MAX_ADDRESSES} can be fetched for one call")
        found[media.url] = Wanted(media.url, param, types)
    return list(found.values())


def inlined(call: chat_pb2.ChatCall, fetched: Mapping[str, message_pb2.Media]) -> chat_pb2.ChatCall:
    """A copy of `call` with what was fetched instead of its addresses."""
    copy = chat_pb2.ChatCall()
    copy.CopyFrom(call)
    for media, _, _ in _media(copy):
        if media.WhichOneof("source") == "url" and (found := fetched.get(media.url)) is not None:
            media.CopyFrom(found)
    return copy


def _media(call: chat_pb2.ChatCall) -> Iterator[tuple[message_pb2.Media, MediaKind, str]]:
    """Every piece of media, its kind, and the path of its part as the caller knows it."""
    for at, message in enumerate(call.messages):
        for part, path in paths.of_parts(message, f"messages[{at}]"):
            if part.WhichOneof("kind") == "tool_result":
                for inside, piece in enumerate(part.tool_result.content):
                    yield from _of(piece, f"{path}.content[{inside}]")
            else:
                yield from _of(part, path)


def _of(part: message_pb2.Part, path: str) -> Iterator[tuple[message_pb2.Media, MediaKind, str]]:
    match part.WhichOneof("kind"):
        case "image":
            yield part.image.media, "image", path
        case "audio":
            yield part.audio.media, "audio", path
        case "file":
            yield part.file.media, "file", path
        case _:
            pass
