"""A whole answer as a `response` object. Not for streams: see `events`.

Items of a provider that speaks this dialect come back as they were; what no item can show is told as notes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_edge import citations
from aigateway_edge.native import dropped
from aigateway_edge.responses import envelope, items
from aigateway_edge.responses.content import DIALECT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_edge.responses.state import Ids

_ITEM_FIELDS: Final = ("id", "status", "phase")
_WANTED: Final = frozenset({"id", "object", "created_at", "model", "output", "usage"})


def response(
    answer: chat_pb2.ChatCompletion, echo: Mapping[str, Any], ids: Ids
) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
    """A `response` object, and notes of what it could not show."""
    own = answer.dialect == DIALECT
    choice = answer.choices[0] if answer.choices else chat_pb2.Choice()
    status, reason = envelope.status(choice.finish_reason)
    cited, notes = _cited(choice, answer.dialect)
    output = _Output(ids, status, own=own, tokens=items.logprobs(choice.logprobs_json), cited=cited)
    for index, part in enumerate(choice.message.parts):
        output.add(part, index)
    head = envelope.Head(
        id=answer.id if own and answer.id else ids.response,
        created=answer.created or int(time.time()),
        model=answer.model,
        echo=echo,
    )
    body = head.response(
        status,
        output.end(),
        reason=reason,
        error=envelope.broken(choice.native_finish_reason) if status == "failed" else None,
        usage=envelope.usage(answer.usage, answer.dialect) if answer.HasField("usage") else None,
    )
    if own and answer.extra_json:
        body = {key: body[key] for key in body if key in _WANTED} | items.members(answer.extra_json)
    return orjson.dumps(body), output.notes + notes


def _cited(
    choice: chat_pb2.Choice, dialect: message_pb2.Dialect.ValueType
) -> tuple[list[items.Json], list[chat_pb2.TranslationNote]]:
    """The annotations of a chat completion, and notes of citations that no text can show."""
    message = choice.message.extra_json
    if dialect == message_pb2.DIALECT_OPENAI_CHAT:
        shown, others = citations.responses_of_chat(message)
        return shown, [citations.unshown("message.annotations", kind) for kind in others]
    if dialect == DIALECT:
        return [], []
    return [], citations.dropped("message", message) + citations.dropped("choices[0]", choice.extra_json)


class _Output:
    """Makes items of parts, in order."""

    def __init__(self, ids: Ids, status: str, *, own: bool, tokens: list[Any], cited: list[items.Json]) -> None:
        self.notes: list[chat_pb2.TranslationNote] = []
        self._ids = ids
        self._status = "completed" if status == "completed" else "incomplete"
        self._own = own
        self._tokens = tokens
        self._cited = cited
        self._items: list[Any] = []
        self._message: items.Json | None = None
        """The message item that more text may still belong to."""

    def end(self) -> list[Any]:
        """All items. Only the last can have been cut off."""
        if self._cited:  # there was no text to show them with
            self.notes.append(citations.unshown("message.annotations", ""))
        for item in self._items[:-1]:
            if isinstance(item, dict) and "status" in item and not self._own:
                item["status"] = "completed"
        return self._items

    def add(self, part: message_pb2.Part, index: int) -> None:
        """Show one part."""
        state = part.provider_state if part.HasField("provider_state") else None
        match part.WhichOneof("kind"):
            case "text":
                piece = items.text(part.text.text, self._tokens, self._cited)
                self._tokens, self._cited = [], []  # of the whole answer: told once
                if not self._own:
                    path = f"output[{len(self._items)}].parts[{index}]"
                    self.notes += citations.dropped(path, part.extra_json)
                self._say(piece, part, state)
            case "refusal":
                self._say(items.refusal(part.refusal.text), part, None)
            case "reasoning":
                self._reason(part, state)
            case "tool_call":
                self._call(part, state)
            case "native" if part.native.dialect == DIALECT:
                self._add(items.fragment(part.native.json))
            case _:
                self.notes.append(dropped(f"output[{len(self._items)}].parts[{index}]", part))

    def _add(self, item: Any) -> None:  # JSON
        self._items.append(item)
        self._message = None

    def _say(self, piece: items.Json, part: message_pb2.Part, state: message_pb2.ProviderState | None) -> None:
        fields = items.members(part.extra_json) if self._own else {}
        own: items.Json = {key: fields.pop(key) for key in _ITEM_FIELDS if key in fields}
        if "item" in fields:
            own |= items.members(orjson.dumps(fields.pop("item")))
        message = self._message
        if message is None or ("id" in own and orjson.dumps(own["id"]) != orjson.dumps(message["id"])):
            item_id = "" if "id" in own else self._ids.item("msg")
            message = items.message(item_id, [], self._status) | own
            self._add(message)
            self._message = message
        if fields:  # the provider said which there are
            piece = {key: value for key, value in piece.items() if key in {"type", "text", "refusal"}}
        message["content"].append(piece | fields)
        if state is not None:
            self._add(items.state_of_text(self._ids.item("rs"), state))

    def _reason(self, part: message_pb2.Part, state: message_pb2.ProviderState | None) -> None:
        if self._own and state is not None and state.state.startswith(b"{"):
            self._add(items.fragment(state.state))
        else:
            self._add(items.reasoning(self._ids.item("rs"), part.reasoning, state))

    def _call(self, part: message_pb2.Part, state: message_pb2.ProviderState | None) -> None:
        call = part.tool_call
        fields = items.members(part.extra_json) if self._own else {}
        item_id = "" if "id" in fields else self._ids.item(items.call_prefix(call.type))
        arguments = call.arguments.decode("utf-8", "replace")
        if not self._own and call.type != message_pb2.TOOL_CALL_TYPE_CUSTOM:
            arguments = arguments or "{}"
        self._add(items.call(item_id, call, arguments, self._status) | fields)
        if state is not None:
            self._add(items.state_of_call(self._ids.item("rs"), state, call.id))
