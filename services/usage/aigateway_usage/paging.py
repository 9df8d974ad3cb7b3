"""Page tokens of ListAttempts: where a page ended, and which filter it belongs to; pure.

Tokens are opaque to callers. One that was made up, cut or used with another filter is refused, never misread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Final

import msgspec
from aigateway_common.errors import invalid

if TYPE_CHECKING:
    from aigateway.v1.usage_service_pb2 import AttemptFilter


class Position(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last attempt of a page: the next page goes on below it."""

    started_at_us: int
    event_id: str


class _Token(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    position: Position
    filter: str


_DECODER: Final = msgspec.json.Decoder(_Token)
_MAX_TOKEN: Final = 1024
_MAX_INT64: Final = 2**63 - 1


def encode(position: Position, selection: AttemptFilter) -> str:
    """The token for the page below `position`."""
    data = msgspec.json.encode(_Token(position, _digest(selection)))
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(token: str, selection: AttemptFilter) -> Position | None:
    """Where a token's page begins; None for the first page.

    Raises:
        GatewayError: INVALID_REQUEST; the token is not one of ours, or belongs to another filter.
    """
    if not token:
        return None
    try:
        found = _DECODER.decode(_bytes(token))
    except (msgspec.DecodeError, binascii.Error, UnicodeEncodeError, ValueError) as error:
        raise invalid("page_token", "`page_token` is not one that this service made") from error
    if not 0 <= found.position.started_at_us <= _MAX_INT64 or "\0" in found.position.event_id:
        raise invalid("page_token", "`page_token` is not one that this service made")
    if found.filter != _digest(selection):
        raise invalid("page_token", "`page_token` belongs to another `filter`; begin again without it")
    return found.position


def _bytes(token: str) -> bytes:
    if len(token) > _MAX_TOKEN:
        raise ValueError(token[:8])
    padded = token.encode("ascii") + b"=" * (-len(token) % 4)
    return base64.b64decode(padded, altchars=b"-_", validate=True)


def _digest(selection: AttemptFilter) -> str:
    return hashlib.sha256(selection.SerializeToString(deterministic=True)).hexdigest()[:16]
