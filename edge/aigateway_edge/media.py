"""Pictures, sound and documents as callers write them: data URLs, addresses and base64, to `Media` and back.

Shared by the dialects of the edge. Not for fetching what an address leads to.
"""

from __future__ import annotations

import base64
import mimetypes
from urllib.parse import unquote_to_bytes

from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

from aigateway_edge.fields import unbase64


def from_url(url: str, path: str) -> message_pb2.Media:
    """An http(s) address, or the data of a data URL; `path` is named when it is neither."""
    if url.startswith(("https://", "http://")):
        return message_pb2.Media(url=url)
    if not url.startswith("data:"):
        raise invalid(path, f"`{path}` must be an http(s) address or a data URL")
    head, comma, value = url[5:].partition(",")
    if not comma:
        raise invalid(path, f"`{path}` is not a data URL: it has no comma before the data")
    if head.endswith(";base64"):
        return message_pb2.Media(data=unbase64(value, path), media_type=head[:-7] or "text/plain")
    return message_pb2.Media(data=unquote_to_bytes(value), media_type=head or "text/plain")


def file_data(value: str, name: str, path: str) -> message_pb2.Media:
    """A data URL or an address, as for images, or bare base64, whose type the name or the first bytes tell."""
    if value.startswith(("data:", "http://", "https://")):
        return from_url(value, path)
    data = unbase64(value, path)
    kind = "application/pdf" if data.startswith(b"%PDF-") else mimetypes.guess_type(name)[0]
    return message_pb2.Media(data=data, media_type=kind or "application/octet-stream")


def data_url(media: message_pb2.Media) -> str:
    """Where a picture is, or the picture itself as a data URL."""
    if media.WhichOneof("source") == "data":
        return f"data:{media.media_type};base64,{base64.b64encode(media.data).decode()}"
    return media.url or media.file_id
