"""The conversation of an Anthropic request: `system` and `messages` to `Message`s.

The results of tools become messages of their own, as most providers have them, before what else the turn says.
Not for single content blocks: see `blocks`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

from aigateway_edge.anthropic import blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_edge.fields import Fields

_ROLES: Final[Mapping[str, message_pb2.Role.ValueType]] = {
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "system": message_pb2.ROLE_SYSTEM,
}
_SYSTEM: Final = "system"
_PLACE: Final = re.compile(r"\bmessages\[(\d{1,9})\](?:\.(content|tool_calls)\b(?:\[(\d{1,9})\])?)?")
"""A message as the call has it, and a piece of it: blocks and tool calls are counted apart there."""


@dataclass(slots=True)
class _Origin:
    """Where in the caller's request a message stands."""

    path: str
    blocks: dict[str, list[int]] = field(default_factory=dict)
    """The indexes of its blocks there, by the name under which the call counts them."""

    @property
    def content(self) -> str:
        return self.path if self.path == _SYSTEM else f"{self.path}.content"  # `system` is its own content


class Conversation:
    """Reads `system` first, then the messages in order."""

    __slots__ = ("_origins", "messages")

    def __init__(self) -> None:
        self.messages: list[message_pb2.Message] = []
        self._origins: list[_Origin] = []

    def system(self, request: Fields) -> None:
        """The top-level `system`, if there is one."""
        shape, parts = blocks.content(request, "system")
        if parts and (len(parts) > 1 or parts[0].text.text):
            self._add(
                _Origin(_SYSTEM), message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=parts, content_shape=shape)
            )

    def read(self, fields: Fields) -> None:
        """One message."""
        role = _role(fields)
        places: list[int] = []
        shape, parts = blocks.content(fields, places=places)
        if not parts and (role != message_pb2.ROLE_ASSISTANT or shape == message_pb2.CONTENT_SHAPE_ABSENT):
            raise invalid(fields.at("content"), f"`{fields.at('content')}` is required and must not be empty")
        origin = _Origin(fields.path, {"content": [], "tool_calls": []})
        said: list[message_pb2.Part] = []
        for part, place in zip(parts, places, strict=True):
            kind = part.WhichOneof("kind")
            if kind == "tool_result":
                answered = message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=[part])
                self._add(_Origin(f"{origin.content}[{place}]"), answered)
                continue
            said.append(part)
            if kind != "reasoning":
                origin.blocks["tool_calls" if kind == "tool_call" else "content"].append(place)
        if said or not parts:
            self._add(origin, message_pb2.Message(role=role, parts=said, content_shape=shape))
        if extra := blocks.left(fields):
            self.messages[-1].extra_json = extra

    def renamed(self, text: str) -> str:
        """`text` with the paths of our messages as those of the caller's."""
        return _PLACE.sub(self._renamed, text)

    def _renamed(self, found: re.Match[str]) -> str:
        index, name, place = int(found[1]), found[2], found[3]
        if index >= len(self._origins):
            return found[0]
        origin = self._origins[index]
        if place is None:
            return origin.content if name else origin.path
        known = origin.blocks.get(name, [])
        return f"{origin.content}[{known[int(place)] if int(place) < len(known) else place}]"

    def _add(self, origin: _Origin, message: message_pb2.Message) -> None:
        self.messages.append(message)
        self._origins.append(origin)


def _role(fields: Fields) -> message_pb2.Role.ValueType:
    word = fields.text("role")
    role = _ROLES.get(word or "")
    if role is None:
        known = ", ".join(f"`{name}`" for name in _ROLES)
        said = f"not `{word[:40]}`" if word else "and is required"
        raise invalid(fields.at("role"), f"`{fields.at('role')}` must be one of {known}, {said}")
    return role
