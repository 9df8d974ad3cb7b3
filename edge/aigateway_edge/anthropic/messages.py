"""The conversation of an Anthropic request: `system` and `messages` to `Message`s.

The results of tools become messages of their own, as most providers have them, before what else the turn says.
Not for single content blocks: see `blocks`.
"""

from __future__ import annotations

import re
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
_PLACE: Final = re.compile(r"(\bmessages\[(\d+)\])(\.content\b)?")


class Conversation:
    """Reads `system` first, then the messages in order."""

    __slots__ = ("_origins", "messages")

    def __init__(self) -> None:
        self.messages: list[message_pb2.Message] = []
        self._origins: list[str] = []
        """Where in the caller's request each message stands."""

    def system(self, request: Fields) -> None:
        """The top-level `system`, if there is one."""
        shape, parts = blocks.content(request, "system")
        if parts and (len(parts) > 1 or parts[0].text.text):
            self._add(_SYSTEM, message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=parts, content_shape=shape))

    def read(self, fields: Fields) -> None:
        """One message."""
        word = fields.text("role")
        role = _ROLES.get(word or "")
        if role is None:
            known = ", ".join(f"`{name}`" for name in _ROLES)
            said = f"not `{word[:40]}`" if word else "and is required"
            raise invalid(fields.at("role"), f"`{fields.at('role')}` must be one of {known}, {said}")
        path = fields.path
        shape, parts = blocks.content(fields)
        if not parts and (role != message_pb2.ROLE_ASSISTANT or shape == message_pb2.CONTENT_SHAPE_ABSENT):
            raise invalid(fields.at("content"), f"`{fields.at('content')}` is required and must not be empty")
        for result in parts:
            if result.HasField("tool_result"):
                self._add(path, message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=[result]))
        said_parts = [part for part in parts if not part.HasField("tool_result")]
        if said_parts or not parts:
            self._add(path, message_pb2.Message(role=role, parts=said_parts, content_shape=shape))
        if extra := blocks.left(fields):
            self.messages[-1].extra_json = extra

    def renamed(self, text: str) -> str:
        """`text` with the paths of our messages as those of the caller's."""
        return _PLACE.sub(lambda found: self._origin(found[1], int(found[2]), found[3] or ""), text)

    def _origin(self, path: str, index: int, content: str) -> str:
        origin = self._origins[index] if index < len(self._origins) else path
        return origin if origin == _SYSTEM else origin + content  # `system` is its own content

    def _add(self, origin: str, message: message_pb2.Message) -> None:
        self.messages.append(message)
        self._origins.append(origin)
