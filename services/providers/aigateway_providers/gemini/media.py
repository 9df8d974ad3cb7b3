"""Pictures, sound and documents as Gemini takes them: bytes inside the request, or the address of a stored file.

Not for fetching: the API is left to read its own files, `gs://` addresses and YouTube; what else the web has is fetched
for it beforehand, as `TAKES` says. Since January 2026 it reads public https addresses by itself as well
(https://ai.google.dev/gemini-api/docs/file-input-methods#external-urls), and is still not asked to: not the models of
2.0, no sound and no HEIC; it wants the type told beforehand; and it fails now and then on addresses that work
(https://github.com/googleapis/js-genai/issues/1385), where our own fetch succeeds or says what is wrong.
"""

from __future__ import annotations

import base64
import mimetypes
from typing import TYPE_CHECKING, Any, Final

from aigateway_common.errors import GatewayError, invalid

from aigateway_providers import media_types
from aigateway_providers.media_urls import Takes

if TYPE_CHECKING:
    from aigateway.v1 import message_pb2

MAX_REQUEST: Final = 100 * 1024 * 1024
"""Bytes of a request, its inline data in base64 included. It was 20 MB before January 2026
(https://blog.google/innovation-and-ai/technology/developers-tools/gemini-api-new-file-limits and
https://ai.google.dev/gemini-api/docs/file-input-methods#method-comparison). The documents say "MB"; the larger reading
is taken, so that nothing is refused here that the API would take."""
MAX_PDF: Final = 50 * 1024 * 1024
"""Bytes of a PDF inside a request (https://ai.google.dev/gemini-api/docs/file-input-methods)."""
_PDF: Final = media_types.PDF

_FILES: Final = "https://generativelanguage.googleapis.com/v1beta/files/"
"""Where the Files API keeps files (https://ai.google.dev/gemini-api/docs/files)."""
_WEB: Final = ("https://", "http://")
_READABLE: Final = (
    "https://generativelanguage.googleapis.com/",
    "https://www.youtube.com/",
    "https://youtube.com/",
    "https://youtu.be/",
    "gs://",
)
_IMAGES: Final = frozenset({media_types.PNG, media_types.JPEG, media_types.WEBP, media_types.HEIC, media_types.HEIF})
_TEXTS: Final = frozenset({"text/plain", "text/html", "text/css", "text/csv", "text/xml", "text/markdown"})

TAKES: Final = Takes(
    # https://ai.google.dev/gemini-api/docs/image-understanding, .../audio, .../document-processing
    types={
        "image": _IMAGES,
        "audio": media_types.AUDIO,
        "file": frozenset({media_types.PDF, *_IMAGES, *media_types.AUDIO, *_TEXTS}),
    },
    fetch=lambda url: url[:8].lower().startswith(_WEB) and not url.startswith(_READABLE),
)
"""What is fetched for Gemini."""

_AUDIO: Final = {"mp3": "audio/mpeg", "mpga": "audio/mpeg", "m4a": "audio/mp4", "aif": "audio/aiff"}


class Room:
    """How much inline data one request may still hold; asked before data is encoded."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = 0

    def take(self, size: int, kind: str, param: str) -> None:
        """Make room for `size` bytes of the type `kind`.

        Raises:
            GatewayError: REQUEST_TOO_LARGE, naming `param`, when they do not fit.
        """
        if kind == _PDF and size > MAX_PDF:
            raise too_large(param, MAX_PDF, "a PDF inside a request")
        self._taken += (size + 2) // 3 * 4
        if self._taken > MAX_REQUEST:
            raise too_large(param, MAX_REQUEST, "all data inside a request, in base64,")


def too_large(param: str, most: int, what: str) -> GatewayError:
    """The error for what is larger than the API takes, naming the field and the way out."""
    return GatewayError(
        "REQUEST_TOO_LARGE",
        f"`{param}`: Gemini takes {what} up to {most // 2**20} MiB; store large files with the Gemini Files API "
        "and send their addresses",
        details={"param": param},
    )


def part(
    media: message_pb2.Media, param: str, room: Room, *, media_type: str = "", filename: str = ""
) -> dict[str, Any]:
    """The part that holds `media`.

    Args:
        media: Where the bytes are.
        param: The field of the caller's request, for errors.
        room: What the request may still hold.
        media_type: Its type, where `media` does not say.
        filename: Its name, from which the type is guessed when nothing else says.

    Raises:
        GatewayError: INVALID_REQUEST, UNSUPPORTED or REQUEST_TOO_LARGE, naming `param`.
    """
    kind = media.media_type or media_type or mimetypes.guess_type(filename)[0] or ""
    match media.WhichOneof("source"):
        case "data":
            if not kind:
                raise invalid(param, f"`{param}` needs a media type, such as `image/png`")
            room.take(len(media.data), kind, param)
            return {"inlineData": {"mimeType": kind, "data": base64.b64encode(media.data).decode("ascii")}}
        case "url":
            if not media.url.startswith(_READABLE):
                raise _not_readable(param)
            return _stored(media.url, kind)
        case "file_id":
            known = media.file_id.startswith(("https://", "gs://"))
            return _stored(media.file_id if known else _FILES + media.file_id.removeprefix("files/"), kind)
        case _:
            raise invalid(param, f"`{param}` has neither data nor an address")


def audio_type(encoding: str) -> str:
    """The MIME type of audio by the encoding's short name; empty when there is none."""
    return _AUDIO.get(encoding, f"audio/{encoding}") if encoding else ""


def _stored(uri: str, kind: str) -> dict[str, Any]:
    return {"fileData": {"mimeType": kind, "fileUri": uri} if kind else {"fileUri": uri}}


def _not_readable(param: str) -> GatewayError:
    return GatewayError(
        "UNSUPPORTED",
        f"`{param}`: for Gemini the gateway fetches `https://` and `http://` addresses only; send one of those, the "
        "bytes as a `data:` URL, or the address of a file stored with the Gemini Files API",
        details={"param": param},
    )
