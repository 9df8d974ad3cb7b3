"""Opaque state of any provider inside `encrypted_content`, and the ids of items made here.

A client that echoes the output items it was given brings back what a provider needs to go on: Claude's signatures and
Gemini's thought signatures as well as OpenAI's own encrypted reasoning. Packed state names its provider, and what it
belongs to when that is not the reasoning item itself. Not a secret: clients could read it in other dialects too.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from typing import Final

import msgspec
from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

_PREFIX: Final = "aigw1_"
_MADE_HERE: Final = re.compile(r"(?:msg|rs|fc|ctc)_gw_")


class _Packed(msgspec.Struct, omit_defaults=True):
    """What stands behind the prefix, as base64 of JSON."""

    provider: str = ""
    state: str = ""
    """Base64."""
    redacted: bool = False
    call: str = ""
    before: bool = False


_packed: Final[msgspec.json.Decoder[_Packed]] = msgspec.json.Decoder(_Packed)


@dataclass(frozen=True, slots=True)
class Carried:
    """State as a client brought it back."""

    state: message_pb2.ProviderState | None
    redacted: bool = False
    """The reasoning's text is withheld."""
    call: str = ""
    """The state belongs to the tool call of this id, and the item is nothing else."""
    before: bool = False
    """The state belongs to the text before the item, and the item is nothing else."""


def pack(
    state: message_pb2.ProviderState | None, *, redacted: bool = False, call: str = "", before: bool = False
) -> str:
    """`encrypted_content`."""
    text = base64.b64encode(state.state).decode() if state is not None else ""
    packed = _Packed(state.provider if state is not None else "", text, redacted, call, before)
    return _PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(packed)).decode()


def unpack(text: str, path: str) -> Carried | None:
    """The state in `encrypted_content`; None when it is not packed here, but a provider's own.

    Raises:
        GatewayError: INVALID_REQUEST, when it begins as ours and is broken.
    """
    if not text.startswith(_PREFIX):
        return None
    try:
        packed = _packed.decode(base64.b64decode(text[len(_PREFIX) :].encode(), b"-_", validate=True))
        state = base64.b64decode(packed.state.encode(), validate=True)
    except (ValueError, msgspec.DecodeError) as error:
        raise invalid(path, f"`{path}` is not as the gateway wrote it; send it back unchanged") from error
    found = message_pb2.ProviderState(provider=packed.provider, state=state) if packed.provider else None
    return Carried(found, packed.redacted, packed.call, packed.before)


def made_here(item_id: str) -> bool:
    """Whether an item's id was made here, so that no provider knows it."""
    return _MADE_HERE.match(item_id) is not None


class Ids:
    """Ids of one answer and its items."""

    __slots__ = ("_count", "_token")

    def __init__(self, token: str = "") -> None:
        self._token = token or os.urandom(16).hex()
        self._count = 0

    @property
    def response(self) -> str:
        """The answer's id."""
        return f"resp_{self._token}"

    def item(self, kind: str) -> str:
        """A new item's id; `kind` is OpenAI's prefix: msg, rs, fc or ctc."""
        self._count += 1
        return f"{kind}_gw_{self._token}_{self._count}"
