"""How the Anthropic dialect carries what it has no field of its own for: the opaque state of other providers.

Clients of this dialect send thinking blocks back as they came, so state travels in their `signature` (or the `data` of
redacted ones): Anthropic's own as it is, another provider's with a prefix that names the provider and the part that
the state belongs to. Not for stop reasons and tokens: see `answers`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, Literal

from aigateway.v1 import message_pb2

Place = Literal["own", "next", "last", "text"]
"""Whose state it is: the thinking's, the following part's, the preceding part's, or that of an empty text."""

ANTHROPIC: Final = "anthropic"
"""The name in `ProviderState.provider` of the provider whose state needs no prefix."""
_PREFIX: Final = "aigateway"
_PLACES: Final[dict[str, Place]] = {"own": "own", "next": "next", "last": "last", "text": "text"}


def pack(state: message_pb2.ProviderState, place: Place = "own") -> str:
    """`state` as the `signature` of a thinking block, or as the `data` of a redacted one."""
    if state.provider == ANTHROPIC and place == "own":
        return state.state.decode("utf-8", "replace")
    return f"{_PREFIX}.{place}.{state.provider}.{base64.b64encode(state.state).decode()}"


def unpack(text: str) -> tuple[message_pb2.ProviderState, Place]:
    """The state in a `signature` or `data` that a client sent back, and whose it is; it must not be empty."""
    prefix, _, rest = text.partition(".")
    word, _, rest = rest.partition(".")
    provider, _, packed = rest.partition(".")
    place = _PLACES.get(word)
    if prefix == _PREFIX and place is not None and provider:
        try:
            state = binascii.a2b_base64(packed, strict_mode=True)
        except ValueError:  # no client's business to write: goes where any other signature goes, to be refused there
            pass
        else:
            return message_pb2.ProviderState(provider=provider, state=state), place
    return message_pb2.ProviderState(provider=ANTHROPIC, state=text.encode()), "own"
