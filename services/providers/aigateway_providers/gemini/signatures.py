"""Thought signatures kept for callers whose client drops them, so that Gemini finds its own thoughts again.

Gemini 3 wants the signature of a function call back with the call. It travels to the caller and back (in OpenAI's
dialect as `extra_content.google.thought_signature`, in Anthropic's in a thinking block), but many clients keep only the
fields they know. What is kept here is the fall-back: short-lived, bounded, of this process alone. A miss costs little:
the call is then sent with the word that Google provides for lost signatures (see `contents`).

No caller gets at another's. A signature is never shown, only sent to Gemini beside the very call it came with, and it
is found by a digest of what only that conversation has: the call's id, function and arguments, the model, and the text
of the message that the call answered. Ids made here are 96 random bits; those of Gemini itself are short (eight
letters), and servers that stand in for it may number their calls, so the id alone is not relied upon.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson
from aigateway.v1 import message_pb2

from aigateway_providers.gemini import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aigateway.v1 import chat_pb2

    Lookup: TypeAlias = Callable[[message_pb2.ToolCall, message_pb2.Message | None], str]
    """The signature that was kept for a tool call which answered a message, or nothing."""
    Signed: TypeAlias = tuple[message_pb2.ToolCall, bytes]

TTL: Final = 900.0
"""Seconds that a signature is kept after it was last used; an agent's next turn comes within."""
MAX_ENTRIES: Final = 10_000
MAX_BYTES: Final = 16 * 1024 * 1024
_LARGEST: Final = 1024 * 1024
"""Bytes of the largest signature that is kept; one caller must not push out all others at once."""
_OVERHEAD: Final = 200
"""Bytes that an entry takes beside its signature, about."""


class Signatures:
    """The signatures of one provider's answers.

    Args:
        clock: Seconds that only grow.
        max_entries: Signatures kept at most.
        max_bytes: Bytes that they take at most; the longest unused go first.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        """By digest: when it expires, and the signature. The first expires first."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, call: chat_pb2.ChatCall, answered: Iterable[Signed]) -> None:
        """Keep the signatures of the tool calls that `call` was answered with."""
        for tool_call, signature in answered:
            if len(signature) > min(_LARGEST, self._max_bytes - _OVERHEAD):
                continue
            key = _key(call.model, tool_call, call.messages[-1] if call.messages else None)
            self._forget(key)
            self._put(key, signature)
            while len(self._kept) > self._max_entries or self._bytes > self._max_bytes:
                self._forget(next(iter(self._kept)))

    def lookup(self, model: str) -> Lookup | None:
        """What finds the signatures of `model`; None when nothing at all is kept."""
        self._expire()
        if not self._kept:
            return None

        def find(call: message_pb2.ToolCall, before: message_pb2.Message | None) -> str:
            key = _key(model, call, before)
            if key not in self._kept:
                return ""
            signature = self._forget(key)
            self._put(key, signature)
            return signature.decode("utf-8", "replace")

        return find

    def _put(self, key: bytes, signature: bytes) -> None:
        self._kept[key] = (self._clock() + TTL, signature)
        self._bytes += len(signature) + _OVERHEAD

    def _forget(self, key: bytes) -> bytes:
        _, signature = self._kept.pop(key, (0.0, None))
        if signature is None:
            return b""
        self._bytes -= len(signature) + _OVERHEAD
        return signature

    def _expire(self) -> None:
        now = self._clock()
        while self._kept and next(iter(self._kept.values()))[0] <= now:
            self._forget(next(iter(self._kept)))


def of_completion(completion: chat_pb2.ChatCompletion) -> Iterator[Signed]:
    """The signed tool calls of a whole answer."""
    for choice in completion.choices:
        for part in choice.message.parts:
            if part.HasField("tool_call") and part.provider_state.provider == wire.KIND:
                yield part.tool_call, part.provider_state.state


def of_events(events: Iterable[chat_pb2.ChatEvent]) -> Iterator[Signed]:
    """The signed tool calls among events of one read: a call comes whole, its signature with it."""
    calls: dict[tuple[int, int], message_pb2.ToolCall] = {}
    for event in events:
        place = (event.choice, event.part)
        match event.WhichOneof("event"):
            case "tool_call":
                calls[place] = message_pb2.ToolCall(id=event.tool_call.id, name=event.tool_call.name)
            case "arguments" if place in calls:
                calls[place].arguments += event.arguments.encode()
            case "provider_state" if place in calls:
                yield calls.pop(place), event.provider_state.state


def _key(model: str, call: message_pb2.ToolCall, before: message_pb2.Message | None) -> bytes:
    digest = hashlib.sha256()
    said = _said(before) if before is not None else ()
    for piece in (model.encode(), call.id.encode(), call.name.encode(), _plain(call.arguments), *said):
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return digest.digest()


def _plain(arguments: bytes) -> bytes:
    """Arguments as one text however a client spells them: many read the JSON and write it anew."""
    try:
        return orjson.dumps(orjson.loads(arguments or b"{}"), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return arguments


def _said(message: message_pb2.Message) -> Iterator[bytes]:
    """What identifies a message: its texts, and what kinds of part stand between them."""
    for part in message.parts:
        kind = part.WhichOneof("kind") or ""
        yield kind.encode()
        if kind == "text":
            yield part.text.text.encode()
        elif kind == "tool_result":
            yield part.tool_result.call_id.encode()
            yield from (piece.text.text.encode() for piece in part.tool_result.content)
