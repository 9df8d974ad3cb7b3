"""The conversation: the caller's messages to Anthropic's `system` and alternating turns.

System and developer messages, wherever they stand, become the top-level `system` blocks in order. Neighbours of one
role become one turn, and the tool results of a turn stand before anything else in it, as the API demands
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

from aigateway_providers import paths
from aigateway_providers.anthropic.blocks import DIALECT, Blocks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aigateway_providers.report import Report

_SYSTEM = (message_pb2.ROLE_SYSTEM, message_pb2.ROLE_DEVELOPER)


class _Turn:
    __slots__ = ("blocks", "extra", "results", "role")

    def __init__(self, role: str) -> None:
        self.role = role
        self.extra: dict[str, Any] = {}
        self.results: list[Any] = []
        self.blocks: list[Any] = []

    def body(self) -> dict[str, Any]:
        content = self.results + self.blocks
        return {"role": self.role, "content": content or "", **self.extra}  # an empty user turn is theirs to refuse


class Conversation:
    """Reads the messages of a call; afterwards `system` and `turns` are what to send."""

    def __init__(self, dialect: message_pb2.Dialect.ValueType, report: Report) -> None:
        self.system: list[Any] = []
        self._own = dialect == DIALECT
        self._turns: list[_Turn] = []
        self._blocks = Blocks(dialect, report)
        self._report = report

    def read(self, messages: Iterable[message_pb2.Message]) -> None:
        """Take all messages, oldest first."""
        last = ""
        for index, message in enumerate(messages):
            last = f"messages[{index}]"
            if message.role in _SYSTEM and not (self._own and self._turns):
                self._system(message, last)
            else:
                self._message(message, last)
        self._strip_prefill(last)

    def turns(self) -> list[dict[str, Any]]:
        """The value of `messages`."""
        return [turn.body() for turn in self._turns]

    def _system(self, message: message_pb2.Message, path: str) -> None:
        if self._turns:
            self._report.emulated(path, "moved into the system prompt, which stands before all messages")
        self.system += self._content(message, path)
        unplaced: dict[str, Any] = {}
        self._leftovers(message, path, unplaced)
        for key in unplaced:
            self._report.dropped(f"{path}.{key}")

    def _message(self, message: message_pb2.Message, path: str) -> None:
        match message.role:
            case message_pb2.ROLE_USER | message_pb2.ROLE_TOOL:
                role = "user"
            case message_pb2.ROLE_ASSISTANT:
                role = "assistant"
            case message_pb2.ROLE_SYSTEM if self._own:
                role = "system"  # late instructions have their place in this dialect
            case _:
                raise invalid(f"{path}.role", f"`{path}.role` is missing or unknown")
        blocks = self._content(message, path)
        if not blocks and role == "assistant":
            return  # an assistant turn without anything to say is refused, and means nothing
        if not self._turns or self._turns[-1].role != role:
            self._turns.append(_Turn(role))
        self._leftovers(message, path, self._turns[-1].extra)
        for block in blocks:
            is_result = isinstance(block, dict) and block["type"] == "tool_result"
            (self._turns[-1].results if is_result else self._turns[-1].blocks).append(block)

    def _content(self, message: message_pb2.Message, path: str) -> list[Any]:
        found = (self._blocks.of(part, where) for part, where in paths.of_parts(message, path))
        return [block for block in found if block is not None]

    def _leftovers(self, message: message_pb2.Message, path: str, target: dict[str, Any]) -> None:
        if message.name:
            self._report.dropped(f"{path}.name", "Claude's messages have no names")
        self._blocks.extras(target, message.extra_json, path)

    def _strip_prefill(self, path: str) -> None:
        """A final assistant turn is a beginning for the model to go on from; it must not end in white space."""
        if not self._turns or self._turns[-1].role != "assistant":
            return
        blocks = self._turns[-1].blocks
        block = blocks[-1] if blocks else None
        if not isinstance(block, dict) or block["type"] != "text" or block["text"] == block["text"].rstrip():
            return
        self._report.clamped(f"{path}.content", "trailing white space of the final assistant message removed")
        block["text"] = block["text"].rstrip()
        if not block["text"]:
            blocks.pop()
            if not blocks:
                self._turns.pop()
