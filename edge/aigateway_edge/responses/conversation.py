"""The conversation of a Responses request: the `input` items to `Message`s.

The model's items in a row are one turn. State that came packed in a reasoning item goes back to the tool call or text
it belongs to. Not for single content parts: see `content`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_edge.fields import Raw
from aigateway_edge.responses import state
from aigateway_edge.responses.content import as_object, content, native

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_edge.fields import Fields

_ROLES: Final[Mapping[str, message_pb2.Role.ValueType]] = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_DEVELOPER,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
}
_FROM_CALLER: Final = ("_output", "_response")
"""How the names of native items end that the caller answers with; the others are the model's."""

_ITEM_FIELDS: Final = ("id", "status", "phase")

_input: Final[msgspec.json.Decoder[str | list[Raw] | None]] = msgspec.json.Decoder(str | list[Raw] | None)


def messages(request: Fields) -> tuple[list[message_pb2.Message], list[str]]:
    """The messages of `instructions` and `input`, and for each where in the request it begins.

    Raises:
        GatewayError: INVALID_REQUEST, naming the field; UNSUPPORTED, for references to stored items.
    """
    found: list[message_pb2.Message] = []
    origins: list[str] = []
    if instructions := request.text("instructions"):
        part = message_pb2.Part(text=message_pb2.TextPart(text=instructions))
        found.append(message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=[part]))
        origins.append("instructions")
    value = request.take("input", _input, "a string or a list of items")
    if not value:
        raise invalid("input", "`input` is required and must not be empty")
    if isinstance(value, str):
        part = message_pb2.Part(text=message_pb2.TextPart(text=value))
        shape = message_pb2.CONTENT_SHAPE_STRING
        found.append(message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part], content_shape=shape))
        return found, [*origins, "input"]
    conversation = _Conversation()
    for index, raw in enumerate(value):
        conversation.read(as_object(raw, f"input[{index}]"), raw)
    return found + conversation.end(), origins + conversation.origins


class _Turn:
    """The model's turn while its items are read."""

    __slots__ = ("origin", "parts", "shape")

    def __init__(self) -> None:
        self.origin = ""
        self.parts: list[message_pb2.Part] = []
        self.shape: message_pb2.ContentShape.ValueType = message_pb2.CONTENT_SHAPE_UNSPECIFIED


class _Conversation:
    """Reads items in order, and remembers the tool calls that outputs may answer."""

    def __init__(self) -> None:
        self.origins: list[str] = []
        """Where each message begins, such as `input[2]`."""
        self._messages: list[message_pb2.Message] = []
        self._turn = _Turn()
        self._calls: set[str] = set()
        self._states: dict[str, message_pb2.ProviderState] = {}
        """State of tool calls, by their ids."""

    def read(self, fields: Fields, raw: Raw) -> None:
        """One item; `raw` is the whole of it."""
        match fields.text("type") or ("message" if fields.has("role") else "item_reference"):
            case "message":
                self._message(fields)
            case "reasoning":
                self._reasoning(fields, raw)
            case "function_call":
                self._call(fields, "arguments", message_pb2.TOOL_CALL_TYPE_FUNCTION)
            case "custom_tool_call":
                self._call(fields, "input", message_pb2.TOOL_CALL_TYPE_CUSTOM)
            case "function_call_output" | "custom_tool_call_output":
                self._output(fields)
            case "item_reference":
                raise GatewayError(
                    "UNSUPPORTED",
                    f"`{fields.path}` refers to a stored item, and this gateway stores none: send the item itself",
                    details={"param": fields.path},
                )
            case kind:
                self._native(kind, fields.path, raw)
        if self._turn.parts and not self._turn.origin:
            self._turn.origin = fields.path

    def end(self) -> list[message_pb2.Message]:
        """All messages."""
        self._close()
        for message in self._messages if self._states else ():
            for part in message.parts:
                if part.HasField("tool_call") and (found := self._states.get(part.tool_call.id)) is not None:
                    part.provider_state.CopyFrom(found)
        return self._messages

    def _close(self) -> None:
        """End the model's turn."""
        turn, self._turn = self._turn, _Turn()
        if not turn.parts:
            return
        self._add(
            turn.origin,
            message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=turn.parts, content_shape=turn.shape),
        )

    def _add(self, origin: str, message: message_pb2.Message) -> None:
        self._messages.append(message)
        self.origins.append(origin)

    def _message(self, fields: Fields) -> None:
        role = _ROLES[_needed_word(fields, "role", _ROLES)]
        if role == message_pb2.ROLE_ASSISTANT:
            known = _known(fields)
            shape, parts = content(fields, "content", lists=known)
            _keep(fields, parts)
            first = self._turn.shape == message_pb2.CONTENT_SHAPE_UNSPECIFIED
            self._turn.shape = shape if first else message_pb2.CONTENT_SHAPE_LIST
            self._turn.parts += parts
            return
        self._close()
        shape, parts = content(fields, "content")
        if not parts:
            raise invalid(fields.at("content"), f"`{fields.at('content')}` must not be empty")
        extra = _item_rest(fields)
        self._add(fields.path, message_pb2.Message(role=role, parts=parts, content_shape=shape, extra_json=extra))

    def _reasoning(self, fields: Fields, raw: Raw) -> None:
        encrypted = fields.text("encrypted_content")
        carried = state.unpack(encrypted, fields.at("encrypted_content")) if encrypted else None
        if carried is not None and (carried.call or carried.before):
            self._attach(carried)
            return
        texts = [part.text("text") or "" for part in fields.children("summary") or ()]
        contents = [part.text("text") or "" for part in fields.children("content") or ()]
        item_id = fields.text("id") or ""
        if carried is None and (encrypted or item_id) and not state.made_here(item_id):
            withheld = bool(encrypted and not (texts or contents))
            carried = state.Carried(message_pb2.ProviderState(provider="openai", state=bytes(raw)), withheld)
        text = "\n\n".join(contents or texts)
        redacted = carried is not None and carried.redacted
        self._turn.parts.append(
            message_pb2.Part(
                reasoning=message_pb2.ReasoningPart(text=text, summary=not contents, redacted=redacted),
                provider_state=None if carried is None else carried.state,
            )
        )

    def _attach(self, carried: state.Carried) -> None:
        """Give state to what it belongs to."""
        if carried.state is None:
            return
        if carried.call:
            self._states[carried.call] = carried.state
            return
        parts = self._turn.parts
        if not parts or parts[-1].WhichOneof("kind") != "text":
            parts.append(message_pb2.Part(text=message_pb2.TextPart()))
        parts[-1].provider_state.CopyFrom(carried.state)

    def _call(self, fields: Fields, key: str, kind: message_pb2.ToolCallType.ValueType) -> None:
        call = message_pb2.ToolCall(
            id=fields.required_text("call_id"),
            name=fields.required_text("name"),
            arguments=(fields.text(key) or "").encode(),
            type=kind,
        )
        self._calls.add(call.id)
        self._turn.parts.append(message_pb2.Part(tool_call=call, extra_json=_item_rest(fields)))

    def _output(self, fields: Fields) -> None:
        self._close()
        call_id = fields.required_text("call_id")
        if call_id not in self._calls:
            path = fields.at("call_id")
            raise invalid(path, f"`{path}` answers no tool call of `input`; send the whole conversation")
        shape, parts = content(fields, "output")
        result = message_pb2.ToolResult(
            call_id=call_id, content=parts, name=fields.text("name") or "", content_shape=shape
        )
        part = message_pb2.Part(tool_result=result, extra_json=_item_rest(fields))
        self._add(fields.path, message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=[part], content_shape=shape))

    def _native(self, kind: str, path: str, raw: Raw) -> None:
        part = message_pb2.Part(native=native(raw))
        if kind.endswith(_FROM_CALLER):
            self._close()
            shape = message_pb2.CONTENT_SHAPE_LIST
            self._add(path, message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part], content_shape=shape))
        else:
            self._turn.parts.append(part)


def _needed_word(fields: Fields, key: str, known: Mapping[str, object]) -> str:
    word = fields.one_of(key, known)
    if word is None:
        raise invalid(fields.at(key), f"`{fields.at(key)}` is required")
    return word


def _item_rest(fields: Fields) -> bytes:
    """What is left of an item."""
    _known(fields)
    return fields.rest()


def _known(fields: Fields) -> bool:
    """Whether a provider knows the item by its id; otherwise its id and status, which say nothing, are taken out."""
    item_id = fields.peek("id").strip(b'"').decode("utf-8", "replace")
    known = item_id not in ("", "null") and not state.made_here(item_id)
    if not known:
        fields.raw("id")
        fields.raw("status")
    return known


def _keep(fields: Fields, parts: list[message_pb2.Part]) -> None:
    """Keep the other fields of a message item with each of its parts."""
    own = [(key, fields.raw(key)) for key in _ITEM_FIELDS]
    own.append(("item", fields.rest()))
    members = b",".join(b'"%b":%b' % (key.encode(), value) for key, value in own if value)
    for part in parts if members else ():
        rest = part.extra_json[1:]
        part.extra_json = b"{%b,%b" % (members, rest) if rest else b"{%b}" % members
