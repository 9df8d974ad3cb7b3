"""The conversation of an OpenAI request: the caller's `messages` to `Message`s.

Reasoning and opaque state come back in the fields that `from_proto` wrote them in. The legacy `function` role and
`function_call` become a tool result and a tool call. Not for single content parts: see `parts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import message_pb2
from aigateway_common.errors import invalid

from aigateway_edge.fields import Fields, Raw
from aigateway_edge.openai.parts import cache_control, part, provider_state

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROLES: Final[Mapping[str, message_pb2.Role.ValueType]] = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_DEVELOPER,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
    "function": message_pb2.ROLE_TOOL,
}

_REASONING: Final = frozenset({"reasoning_details", "reasoning_content", "reasoning"})

_content: Final[msgspec.json.Decoder[str | list[Raw] | None]] = msgspec.json.Decoder(str | list[Raw] | None)
_part: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])


class Conversation:
    """Reads messages in order, and remembers the tool calls that results may answer."""

    __slots__ = ("_calls", "_functions")

    def __init__(self) -> None:
        self._calls: set[str] = set()
        self._functions: dict[str, str] = {}
        """The id made up for the last legacy call of each function."""

    def read(self, fields: Fields) -> message_pb2.Message:
        """One message."""
        word = fields.text("role")
        role = _ROLES.get(word) if word else None
        if role is None:
            known = ", ".join(f"`{name}`" for name in _ROLES)
            said = f"not `{word[:40]}`" if word else "and is required"
            raise invalid(fields.at("role"), f"`{fields.at('role')}` must be one of {known}, {said}")
        if role == message_pb2.ROLE_TOOL:
            return self._result(fields, legacy=word == "function")
        if role == message_pb2.ROLE_ASSISTANT:
            return self._assistant(fields)
        shape, parts = content(fields)
        if not parts:
            raise invalid(fields.at("content"), f"`{fields.at('content')}` is required and must not be empty")
        if fields.empty:  # as nearly always
            message = message_pb2.Message(role=role, content_shape=shape)
            message.parts.extend(parts)
            return message
        _mark(fields, parts)
        return message_pb2.Message(
            role=role, parts=parts, name=fields.text("name") or "", content_shape=shape, extra_json=fields.rest()
        )

    def _assistant(self, fields: Fields) -> message_pb2.Message:
        parts = [] if fields.lacks(_REASONING) else _reasoning(fields)
        shape, said = content(fields)
        _attach(said, provider_state(fields))
        parts += said
        if refusal := fields.text("refusal"):
            parts.append(message_pb2.Part(refusal=message_pb2.RefusalPart(text=refusal)))
        if audio := fields.child("audio"):
            parts.append(_audio(audio))
        _mark(fields, parts)
        for call in fields.children("tool_calls") or ():
            parts.append(self._call(call))
        if function := fields.child("function_call"):
            parts.append(self._function_call(function))
        return message_pb2.Message(
            role=message_pb2.ROLE_ASSISTANT,
            parts=parts,
            name=fields.text("name") or "",
            content_shape=shape,
            extra_json=fields.rest(),
        )

    def _call(self, fields: Fields) -> message_pb2.Part:
        call_id = fields.required_text("id")
        self._calls.add(call_id)
        kind = fields.one_of("type", ("function", "custom")) or "function"
        custom = kind == "custom"
        body = fields.child(kind)
        if body is None:
            raise invalid(fields.at(kind), f"`{fields.at(kind)}` is required and must be an object")
        call = message_pb2.ToolCall(
            id=call_id,
            name=body.required_text("name"),
            arguments=(body.text("input" if custom else "arguments") or "").encode(),
            type=message_pb2.TOOL_CALL_TYPE_CUSTOM if custom else message_pb2.TOOL_CALL_TYPE_FUNCTION,
        )
        fields.put_back(kind, body)
        fields.raw("index")  # left over from a stream; the place in the list says the same
        state = provider_state(fields)
        return message_pb2.Part(tool_call=call, provider_state=state, extra_json=fields.rest())

    def _function_call(self, fields: Fields) -> message_pb2.Part:
        """A legacy call, which has no id: one is made up from its place."""
        name = fields.required_text("name")
        call_id = f"call_{len(self._calls)}_{name}"[:64]
        self._calls.add(call_id)
        self._functions[name] = call_id
        arguments = (fields.text("arguments") or "").encode()
        call = message_pb2.ToolCall(
            id=call_id, name=name, arguments=arguments, type=message_pb2.TOOL_CALL_TYPE_FUNCTION
        )
        return message_pb2.Part(tool_call=call)

    def _result(self, fields: Fields, *, legacy: bool) -> message_pb2.Message:
        name = fields.text("name") or ""
        path = fields.at("name" if legacy else "tool_call_id")
        call_id = self._functions.get(name, "") if legacy else fields.required_text("tool_call_id")
        if call_id not in self._calls:
            raise invalid(path, f"`{path}` answers no tool call of an earlier assistant message")
        shape, parts = content(fields)
        if shape in (message_pb2.CONTENT_SHAPE_NULL, message_pb2.CONTENT_SHAPE_ABSENT) and not legacy:
            raise invalid(fields.at("content"), f"`{fields.at('content')}` is required")
        result = message_pb2.ToolResult(call_id=call_id, content=parts, name=name, content_shape=shape)
        return message_pb2.Message(
            role=message_pb2.ROLE_TOOL,
            parts=[message_pb2.Part(tool_result=result, cache_control=cache_control(fields))],
            content_shape=shape,
            extra_json=fields.rest(),
        )


def content(fields: Fields) -> tuple[message_pb2.ContentShape.ValueType, list[message_pb2.Part]]:
    """The `content` of a message, and how it was written."""
    if not fields.has("content"):
        return message_pb2.CONTENT_SHAPE_ABSENT, []
    value = fields.take("content", _content, "a string or a list of parts")
    if value is None:
        return message_pb2.CONTENT_SHAPE_NULL, []
    if isinstance(value, str):
        text = message_pb2.Part()
        text.text.text = value
        return message_pb2.CONTENT_SHAPE_STRING, [text]
    path = fields.at("content")
    return message_pb2.CONTENT_SHAPE_LIST, [_item(raw, f"{path}[{index}]") for index, raw in enumerate(value)]


def _item(raw: Raw, path: str) -> message_pb2.Part:
    try:
        values = _part.decode(raw)
    except msgspec.ValidationError as error:
        raise invalid(path, f"`{path}` must be an object") from error
    return part(Fields(values, path), bytes(raw))


def _audio(fields: Fields) -> message_pb2.Part:
    """An earlier audio answer of the model, by its id."""
    data = fields.data("data")
    audio = message_pb2.AudioPart(
        media=None if data is None else message_pb2.Media(data=data),
        id=fields.required_text("id"),
        transcript=fields.text("transcript") or "",
        expires_at=fields.integer("expires_at", 0, 2**63 - 1) or 0,
    )
    return message_pb2.Part(audio=audio)


def _mark(fields: Fields, parts: list[message_pb2.Part]) -> None:
    """A `cache_control` on the message marks its last part."""
    mark = cache_control(fields)
    if mark is not None and parts:
        parts[-1].cache_control.CopyFrom(mark)


def _attach(parts: list[message_pb2.Part], state: message_pb2.ProviderState | None) -> None:
    """Give the message's state to its last text, which may have to be made for it."""
    if state is None:
        return
    if not parts or parts[-1].WhichOneof("kind") != "text":
        parts.append(message_pb2.Part(text=message_pb2.TextPart()))
    parts[-1].provider_state.CopyFrom(state)


def _reasoning(fields: Fields) -> list[message_pb2.Part]:
    """Earlier reasoning: `reasoning_details` wins over `reasoning_content`, that over `reasoning`."""
    details = fields.children("reasoning_details")
    texts = [fields.text("reasoning_content"), fields.text("reasoning")]
    if details is not None:
        return [_detail(detail) for detail in details]
    return [message_pb2.Part(reasoning=message_pb2.ReasoningPart(text=text)) for text in texts if text][:1]


def _detail(fields: Fields) -> message_pb2.Part:
    kind = fields.one_of("type", ("reasoning.text", "reasoning.summary", "reasoning.encrypted"))
    text = fields.text("text")
    if kind == "reasoning.summary":
        text = fields.text("summary") or text
    state = fields.data("state")
    provider = fields.text("provider") or ""
    if state is not None and not provider:
        raise invalid(fields.at("provider"), f"`{fields.at('provider')}` must name the provider that made the state")
    return message_pb2.Part(
        reasoning=message_pb2.ReasoningPart(
            text=text or "", summary=kind == "reasoning.summary", redacted=kind == "reasoning.encrypted"
        ),
        provider_state=None if state is None else message_pb2.ProviderState(provider=provider, state=state),
        extra_json=fields.rest(),
    )
