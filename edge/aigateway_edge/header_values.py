"""Values of response headers: ASCII, bounded, and free of line breaks, whatever a provider or caller wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway.v1 import chat_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_TRANSLATION: Final = 2048
"""Bytes of the longest `x-gateway-translation`; proxies commonly take 4 to 8 KiB of headers in all."""
_MAX_VALUE: Final = 256
_MAX_DETAIL: Final = 160

_ACTIONS: Final[Mapping[chat_pb2.TranslationAction.ValueType, str]] = {
    chat_pb2.TRANSLATION_ACTION_DROPPED: "dropped",
    chat_pb2.TRANSLATION_ACTION_CLAMPED: "clamped",
    chat_pb2.TRANSLATION_ACTION_EMULATED: "emulated",
}


def safe(text: str, limit: int = _MAX_VALUE) -> bytes:
    """`text` with anything but printable ASCII as `?`, cut to `limit`."""
    text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)
    return text.encode()


def translation(notes: Iterable[chat_pb2.TranslationNote]) -> bytes:
    """The translation report: `field=action (detail)`, separated by `; `; `+N` stands for those that did not fit."""
    entries = [_entry(note) for note in notes]
    kept, length = 0, 0
    for entry in entries:
        length += len(entry) + 2
        if length > MAX_TRANSLATION - 8:
            break
        kept += 1
    if kept < len(entries):
        return b"; ".join([*entries[:kept], b"+%d" % (len(entries) - kept)])
    return b"; ".join(entries)


def server_timing(timing: chat_pb2.CallTiming, elapsed_ns: int) -> tuple[bytes, float]:
    """`Server-Timing` in milliseconds, each hop less those below it; and the edge's own part in seconds."""
    below = timing.upstream_us + timing.adapter_us + timing.router_us
    edge = max(elapsed_ns / 1000 - below, 0.0)
    value = b"edge;dur=%.3f, router;dur=%.3f, adapter;dur=%.3f, upstream;dur=%.3f" % (
        edge / 1000,
        timing.router_us / 1000,
        timing.adapter_us / 1000,
        timing.upstream_us / 1000,
    )
    return value, edge / 1e6


def duration(milliseconds: int) -> bytes:
    """A duration as OpenAI writes it: `6ms`, `1.5s`, `6m0s`, `1h0m0s`.

    https://platform.openai.com/docs/guides/rate-limits
    """
    if milliseconds < 1000:
        return b"%dms" % milliseconds if milliseconds > 0 else b"0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}".encode()
    return f"{minutes}m{seconds}".encode() if minutes else seconds.encode()


def sane_request_id(value: bytes | None) -> bool:
    """Whether a caller's request id can stand in headers, logs and metadata as it is."""
    return value is not None and 0 < len(value) <= 128 and not value.translate(None, _ID_BYTES)


_ID_BYTES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/+=@-"


def _entry(note: chat_pb2.TranslationNote) -> bytes:
    text = f"{note.field}={_ACTIONS.get(note.action, 'dropped')}"
    if note.detail:
        text += f" ({note.detail[:_MAX_DETAIL]})"
    return safe(text.replace(";", ","), 512)


def joined(*groups: Sequence[chat_pb2.TranslationNote]) -> list[chat_pb2.TranslationNote]:
    """Several reports as one."""
    return [note for group in groups for note in group]
