"""What kind of media some bytes are, by how they begin; pure.

What a server says of its files is often wrong or missing, so it counts only for text, which has no beginning of its
own. Sources: https://mimesniff.spec.whatwg.org, RFC 9628 for HEIF brands, RFC 9639 for FLAC.
"""

from __future__ import annotations

from typing import Final

PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
GIF: Final = "image/gif"
WEBP: Final = "image/webp"
HEIC: Final = "image/heic"
HEIF: Final = "image/heif"
PDF: Final = "application/pdf"
WAV: Final = "audio/wav"
MP3: Final = "audio/mpeg"
OGG: Final = "audio/ogg"
FLAC: Final = "audio/flac"
AIFF: Final = "audio/aiff"
AAC: Final = "audio/aac"
M4A: Final = "audio/mp4"
AUDIO: Final = frozenset({WAV, MP3, OGG, FLAC, AIFF, AAC, M4A})

_BEGINNINGS: Final = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"%PDF-", PDF),
    (b"OggS", OGG),
    (b"fLaC", FLAC),
    (b"ID3", MP3),
    (b"\xff\xf1", AAC),
    (b"\xff\xf9", AAC),
    (b"\xff\xfb", MP3),
    (b"\xff\xfa", MP3),
    (b"\xff\xf3", MP3),
    (b"\xff\xf2", MP3),
)
_IN_RIFF: Final = {b"WEBP": WEBP, b"WAVE": WAV}
_IN_FORM: Final = {b"AIFF": AIFF, b"AIFC": AIFF}
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), HEIC),
    **dict.fromkeys((b"mif1", b"msf1"), HEIF),
    **dict.fromkeys((b"M4A ", b"M4B "), M4A),
}


def media_type(data: bytes, declared: str) -> str:
    """The MIME type of `data`; empty when it is nothing known.

    Args:
        data: The whole of it, or its first bytes.
        declared: What its server calls it, parameters included; believed for `text/…` alone.
    """
    for beginning, found in _BEGINNINGS:
        if data.startswith(beginning):
            return found
    match data[:4], data[4:8]:
        case b"RIFF", _:
            return _IN_RIFF.get(data[8:12], "")
        case b"FORM", _:
            return _IN_FORM.get(data[8:12], "")
        case _, b"ftyp":
            return _BRANDS.get(data[8:12], "")
    said = declared.partition(";")[0].strip().lower()
    return said if said.startswith("text/") and b"\0" not in data[:1024] else ""
